"""What a type checker must refuse: each line but these has a fault, named in its comment (tests/test_types.py)."""

import koubai as kb

kb.Adam(lr=0.1, betaone=3)  # call-arg: "betaone"
kb.Adam(lr="fast")  # arg-type: "lr"
kb.SGD(0.1, 0.9)  # call-arg: positional
kb.Adam(semantics="jax")  # arg-type: "semantics"
kb.LBFGS(line_search="armijo")  # arg-type: "line_search"
kb.GradientDescent(groups={})  # call-arg: "groups"
kb.fit(3, [0.0], [1.0])  # arg-type: "fit"
kb.nn.Dense()  # call-arg: "units"
kb.plot.no_such_picture()  # attr-defined: "no_such_picture"
print(kb.no_such_name)  # attr-defined: "no_such_name"
