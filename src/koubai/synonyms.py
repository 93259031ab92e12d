"""Other people's words for what koubai has: SciPy's, PyTorch's, Keras's, optax's, and those of the articles.

A word is compared without case, "_", "-" and "."; its meanings are tried in the order given, and one counts only if it
is known: ``alpha`` is lr among an optimizer's hyperparameters, and nothing among the columns of a table. Further words
of explanation follow after a colon. If a word has no counterpart, the answer is ``(known) sentence``, wherever
``known`` is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["SYNONYMS", "no_attribute", "plain", "suggestion"]

_OWN = "(optimizer) it belongs to the optimizer, as in optimizer=kb.SGD(lr=0.1, momentum=0.9)"
_INTERVALS = "(bounds) bounds= takes intervals; put any other constraint into f, as a penalty"
_CURVATURE = "(optimizer) leave it out: 'lbfgs' and 'levenbergmarquardt' find the curvature themselves"
_STEPS = "max_steps"
_CALLBACK = "on_step: called with each Step (t, x, f, g, lr); returning True stops"
_APART = "(max_steps) write the options as arguments of their own: max_steps=100, gtol=1e-8"
_ITERATE = "(x0) iterate yields each Step: look at it inside the loop, and leave the loop to stop"
_MACHINE = "(lr) leave it out: koubai chooses its machine code itself"
_SEARCH = "koubai follows gradients, which differences give where f can't be traced"
_NEWTON = "the curvature is found on the way, so that no Hessian is needed"
_BOUNDED = "it takes bounds="
_GLOBAL = "it ends in the nearest minimum: start it from several points"
_WRITE = "(layer) there is none: write it as a Layer of your own, whose derivative koubai finds"

SYNONYMS: dict[str, tuple[str, ...]] = {
    # options of minimize and its kin
    "method": ("optimizer: its name or an object, as in optimizer='lbfgs' or optimizer=kb.Adam(lr=0.1)",),
    "solver": ("optimizer",),
    "opt": ("optimizer",),
    "algorithm": ("optimizer",),
    "jac": ("grad: a function of x, the name of a method, or True where f returns (value, gradient)", "jacobian"),
    "fprime": ("grad",),
    "gradf": ("grad",),
    "df": ("grad",),
    "gradient": ("grad",),
    "gradfn": ("grad",),
    "hess": (_CURVATURE, "hessian"),
    "hessp": (_CURVATURE, "hvp"),
    "constraints": (_INTERVALS,),
    "lb": ("bounds: (low, high), or such a pair for each element",),
    "ub": ("bounds: (low, high), or such a pair for each element",),
    "tol": ("gtol: of the largest |gradient|; ftol= is that of f, xtol= that of x", "min_delta"),
    "tolerance": ("gtol: of the largest |gradient|; ftol= is that of f, xtol= that of x",),
    "threshold": ("gtol: of the largest |gradient|; target= is that of f",),
    "atol": ("gtol",),
    "rtol": ("ftol",),
    "fatol": ("ftol",),
    "xatol": ("xtol",),
    "maxiter": (_STEPS, "epochs"),
    "maxiterations": (_STEPS, "epochs"),
    "niter": (_STEPS, "epochs"),
    "iters": (_STEPS, "epochs"),
    "numiter": (_STEPS, "epochs"),
    "numiterations": (_STEPS, "epochs"),
    "iterations": (_STEPS, "epochs"),
    "iternum": (_STEPS, "epochs"),
    "steps": (_STEPS,),
    "nsteps": (_STEPS,),
    "numsteps": (_STEPS,),
    "stepnum": (_STEPS,),
    "maxfev": (f"{_STEPS}: evaluations are not limited, steps are",),
    "maxfun": (f"{_STEPS}: evaluations are not limited, steps are",),
    "epochs": (f"{_STEPS}: with batches=, an epoch is as many steps as there are batches",),
    "nepochs": ("epochs", _STEPS),
    "epoch": ("epochs", _STEPS),
    "callback": (_CALLBACK, "on_epoch", _ITERATE),
    "callbacks": (_CALLBACK, "on_epoch", _ITERATE),
    "onstep": (_ITERATE,),
    "progress": (_ITERATE,),
    "options": (_APART,),
    "disp": ("progress: a bar on stderr; print(run) says how it ended",),
    "verbose": ("progress: a bar on stderr; print(run) says how it ended",),
    "history": ("record: run.history is kept unless record='off'",),
    "returnhistory": ("record: run.history is kept unless record='off'",),
    "returnall": ("record: run.history is kept unless record='off'",),
    "randomstate": ("seed",),
    "rng": ("seed",),
    "batchsize": ("batches: koubai.nn.batches(X, y, size, seed)",),
    "data": ("batches: koubai.nn.batches(X, y, size, seed), or args=(X, y) for all the data at once",),
    "batch": ("batch_size", "batches"),
    "validationdata": ("validation",),
    "validationsplit": ("validation: the held-back data itself, as koubai.nn.split gives it",),
    "earlystopping": ("patience",),
    "niternochange": ("patience",),
    "fun": ("f",),
    "func": ("f",),
    "function": ("f",),
    "objective": ("f",),
    "x": ("x0",),
    "xinit": ("x0",),
    "initx": ("x0",),
    "init": ("x0",),
    "start": ("x0",),
    "params": ("x0",),
    "initialguess": ("x0",),
    # learning rates and hyperparameters
    "lr": (_OWN,),
    "learningrate": ("lr", _OWN),
    "learningrateinit": ("lr", _OWN),
    "eta": ("lr", _OWN),
    "eta0": ("lr", _OWN),
    "alpha": ("lr", _OWN),
    "stepsize": ("lr", _OWN),
    "rate": ("lr", _OWN),
    "lrate": ("lr", _OWN),
    "betas": ("beta1: apart, as in beta1=0.9, beta2=0.999", _OWN),
    "b1": ("beta1", _OWN),
    "b2": ("beta2", _OWN),
    "beta": ("momentum", "beta1", _OWN),
    "beta1": ("momentum", _OWN),
    "beta2": ("alpha", "rho", _OWN),
    "mu": ("momentum", "beta1", _OWN),
    "mom": ("momentum", "beta1", _OWN),
    "momentum": ("beta1", _OWN),
    "gamma": ("momentum", "alpha", "rho", _OWN),
    "rho": ("alpha", "beta2", _OWN),
    "decayrate": ("alpha", "rho", "beta2", _OWN),
    "decay": ("alpha", "weight_decay", _OWN),
    "usenesterov": ("nesterov", _OWN),
    "nesterov": (_OWN,),
    "nestrov": ("nesterov", _OWN),
    "useamsgrad": ("amsgrad", _OWN),
    "amsgrad": ("(optimizer) it is an optimizer, as in optimizer=kb.AMSGrad(lr=0.001)",),
    "epsilon": ("eps", "h", _OWN),
    "eps": ("h", _OWN),
    "delta": ("h", "eps"),
    "dx": ("h",),
    "step": ("h", "lr"),
    "order": ("n",),
    "argnum": ("argnums",),
    "wrt": ("argnums",),
    "weightdecay": (_OWN,),
    "l2": ("weight_decay", _OWN),
    "l2reg": ("weight_decay", _OWN),
    "globalclipnorm": ("clipnorm",),
    "maxnorm": ("clipnorm",),
    "maxgradnorm": ("clipnorm",),
    "gradclip": ("clipnorm", "clipvalue", _OWN),
    "maximize": ("(lr) koubai goes down: give it -f",),
    "foreach": (_MACHINE,),
    "fused": (_MACHINE,),
    "capturable": (_MACHINE,),
    # optimizers
    "gd": ("gradientdescent",),
    "steepestdescent": ("gradientdescent",),
    "graddescent": ("gradientdescent",),
    "stochasticgradientdescent": ("sgd",),
    "batchgradientdescent": ("gradientdescent",),
    "sgdmomentum": ("momentum",),
    "momentumsgd": ("momentum",),
    "heavyball": ("momentum",),
    "nag": ("nesterov",),
    "nesterovmomentum": ("nesterov",),
    "rms": ("rmsprop",),
    "cg": ("conjugategradient",),
    "nonlinearcg": ("conjugategradient",),
    "fletcherreeves": ("conjugategradient",),
    "bb": ("barzilaiborwein",),
    "lm": ("levenbergmarquardt",),
    "leastsq": ("levenbergmarquardt",),
    "leastsquares": ("levenbergmarquardt: it reads the residuals off f",),
    "trf": ("levenbergmarquardt: it reads the residuals off f, and takes bounds=",),
    "dogbox": ("levenbergmarquardt: it reads the residuals off f, and takes bounds=",),
    "gaussnewton": ("levenbergmarquardt: it reads the residuals off f",),
    "curvefit": ("levenbergmarquardt: it reads the residuals off f", "minimize: of the sum of squared residuals"),
    "bfgs": ("lbfgs",),
    "lbfgsb": (f"lbfgs: {_BOUNDED}",),
    "quasinewton": ("lbfgs",),
    "newton": (f"lbfgs: {_NEWTON}",),
    "newtoncg": (f"lbfgs: {_NEWTON}",),
    "tnc": (f"lbfgs: {_BOUNDED}",),
    "dogleg": (f"lbfgs: {_NEWTON}",),
    "trustncg": (f"lbfgs: {_NEWTON}",),
    "trustkrylov": (f"lbfgs: {_NEWTON}",),
    "trustexact": (f"lbfgs: {_NEWTON}",),
    "trustconstr": (f"lbfgs: {_BOUNDED}; put any other constraint into f, as a penalty",),
    "slsqp": (f"lbfgs: {_BOUNDED}; put any other constraint into f, as a penalty",),
    "cobyla": (f"lbfgs: {_SEARCH}",),
    "cobyqa": (f"lbfgs: {_SEARCH}",),
    "neldermead": (f"lbfgs: {_SEARCH}",),
    "powell": (f"lbfgs: {_SEARCH}",),
    "basinhopping": (f"lbfgs: {_GLOBAL}", f"minimize: {_GLOBAL}"),
    "dualannealing": (f"lbfgs: {_GLOBAL}", f"minimize: {_GLOBAL}"),
    "differentialevolution": (f"lbfgs: {_GLOBAL}", f"minimize: {_GLOBAL}"),
    # methods of gradients
    "2point": ("forward",),
    "3point": ("central",),
    "cs": ("complex",),
    "none": ("auto",),
    "false": ("auto",),
    "autograd": ("backprop",),
    "autodiff": ("backprop",),
    "backpropagation": ("backprop",),
    "numerical": ("adaptive",),
    "finitedifference": ("central", "numerical_gradient"),
    # functions
    "gradientdescent": ("minimize: with lr= alone, as in kb.minimize(f, x0, lr=0.1)",),
    "optimize": ("minimize",),
    "optim": ("optimizers: as in kb.Adam(lr=0.1)",),
    "fmin": ("minimize",),
    "train": ("fit: or kb.nn.Network(…).fit(X, y)",),
    "diff": ("derivative",),
    "differentiate": ("derivative",),
    "numericaldiff": ("derivative",),
    "numericalderivative": ("derivative",),
    "numericalgradient2d": ("numerical_gradient",),
    "numericalgrad": ("numerical_gradient",),
    "numgrad": ("numerical_gradient",),
    "approxfprime": ("numerical_gradient",),
    "checkgrad": ("check_gradient",),
    "gradcheck": ("check_gradient",),
    "gradientcheck": ("check_gradient",),
    "valueandgradient": ("value_and_grad",),
    "jacfwd": ("jacobian",),
    "jacrev": ("jacobian",),
    "jvp": ("jacobian", "hvp"),
    "functions": ("problems: the test functions, as in kb.problems['rosenbrock']",),
    "schedulers": ("schedules",),
    "lrscheduler": ("schedules",),
    "layers": ("nn",),
    "losses": ("nn",),
    # schedules
    "steplr": ("step",),
    "multisteplr": ("step",),
    "piecewiseconstantdecay": ("step",),
    "exponentiallr": ("exponential",),
    "exponentialdecay": ("exponential",),
    "cosineannealinglr": ("cosine",),
    "cosinedecay": ("cosine",),
    "linearlr": ("linear",),
    "polynomialdecay": ("linear",),
    "onecyclelr": ("one_cycle",),
    "reducelronplateau": ("plateau",),
    "inversetimedecay": ("inverse_sqrt",),
    # layers, losses, data
    "sigmoid": ("sigmoid: a layer, as in nn.Sigmoid().forward(x)",),
    "relu": ("relu: a layer, as in nn.ReLU().forward(x)",),
    "tanh": ("tanh: a layer, as in nn.Tanh().forward(x)",),
    "softmax": ("softmax: a layer, as in nn.Softmax().forward(x)",),
    "affine": ("dense",),
    "linear": ("dense",),
    "fullyconnected": ("dense",),
    "convolution": ("conv2d",),
    "conv": ("conv2d",),
    "pooling": ("maxpool2d",),
    "maxpooling": ("maxpool2d",),
    "maxpooling2d": ("maxpool2d",),
    "averagepooling2d": ("avgpool2d",),
    "avgpooling2d": ("avgpool2d",),
    "batchnormalization": ("batchnorm",),
    "batchnorm1d": ("batchnorm",),
    "batchnorm2d": ("batchnorm",),
    "layernormalization": ("layernorm",),
    "conv1d": (_WRITE,),
    "softmaxwithloss": ("crossentropy: it takes logits, so that no softmax comes before it",),
    "crossentropyloss": ("crossentropy",),
    "crossentropyerror": ("crossentropy",),
    "categoricalcrossentropy": ("crossentropy",),
    "sparsecategoricalcrossentropy": ("crossentropy",),
    "nllloss": ("crossentropy: it takes logits, so that no softmax comes before it",),
    "sigmoidwithloss": ("binarycrossentropy: it takes logits, so that no sigmoid comes before it",),
    "bceloss": ("binarycrossentropy: it takes logits, so that no sigmoid comes before it",),
    "bcewithlogitsloss": ("binarycrossentropy",),
    "binarycrossentropyloss": ("binarycrossentropy",),
    "mseloss": ("mse",),
    "meansquarederror": ("mse",),
    "sumsquarederror": ("mse",),
    "l1loss": ("mae",),
    "meanabsoluteerror": ("mae",),
    "huberloss": ("huber",),
    "smoothl1loss": ("huber",),
    "sequential": ("network: as in nn.Network([nn.Dense(100), nn.ReLU(), nn.Dense(10)], nn.CrossEntropy())",),
    "model": ("network: as in nn.Network([nn.Dense(100), nn.ReLU(), nn.Dense(10)], nn.CrossEntropy())",),
    "twolayernet": ("network: as in nn.Network([nn.Dense(50), nn.Sigmoid(), nn.Dense(10)], nn.CrossEntropy())",),
    "multilayernet": ("network: as in nn.Network([nn.Dense(50), nn.ReLU(), nn.Dense(10)], nn.CrossEntropy())",),
    "simplenet": ("network: as in nn.Network([nn.Dense(3)], nn.CrossEntropy())",),
    "module": ("layer",),
    "elu": (_WRITE,),
    "selu": (_WRITE,),
    "silu": (_WRITE,),
    "swish": (_WRITE,),
    "softplus": (_WRITE,),
    "rnn": (_WRITE,),
    "lstm": (_WRITE,),
    "gru": (_WRITE,),
    "attention": (_WRITE,),
    "multiheadattention": (_WRITE,),
    "dataloader": ("batches",),
    "traintestsplit": ("split",),
    "standardscaler": ("standardize",),
    "onehotencoder": ("one_hot",),
    "tocategorical": ("one_hot",),
    "loaddigits": ("digits",),
    "mnist": ("digits: the 1,797 small ones that scikit-learn brings",),
    "loadmnist": ("digits: the 1,797 small ones that scikit-learn brings",),
    "makemoons": ("moons",),
    "makecircles": ("circles",),
    "makeblobs": ("blobs",),
    "spiral": ("spirals",),
}


def plain(word: object) -> str:
    """Return a word without what people write differently: case, "_", "-", "." and blanks."""
    return "".join(c for c in str(word).lower() if c not in "_-. ")


def suggestion(word: object, known: Iterable[str]) -> tuple[str | None, str, bool]:
    """Return the known name that ``word`` may mean, or None; the words that say so; is it more than a guess?"""
    names = {plain(name): name for name in known}
    wanted = plain(word)
    same = names.get(wanted)
    if same is None or same[0].isupper() != str(word)[0].isupper():  # a function is not meant where a class is
        for meaning in SYNONYMS.get(wanted, ()):
            alone = meaning.startswith("(")
            name, _, more = meaning[1:].partition(") ") if alone else meaning.partition(": ")
            if (found := names.get(plain(name))) is not None:
                return found, more if alone else f"koubai's word is {found!r}{'; ' if more else ''}{more}", True
    near = [wanted] if same is not None else difflib.get_close_matches(wanted, names, n=1, cutoff=0.5)
    return names[near[0]] if near else None, f"did you mean {names[near[0]]!r}?" if near else "", same is not None


def no_attribute(module: str, name: str, known: Iterable[str], inside: str = "") -> AttributeError:
    """Return the error of a module that has no such name; it says which of the ``known`` ones may be meant.

    inside: where these are, as "nn."
    """
    meant, told, _ = (None, "", False) if name.startswith("_") else suggestion(name, known)
    told = told.replace(repr(meant), repr(f"{inside}{meant}"), 1)
    return AttributeError(f"module {module!r} has no attribute {name!r}" + (f": {told}" if told else ""))
