"""The builder of LLVM text: what is written with it is compiled by llvmlite and run."""

import ctypes
import math

import pytest

from koubai.execute.ir import Code, Function, literal

llvm = pytest.importorskip("llvmlite.binding")

KINDS = {"i64": ctypes.c_int64, "double": ctypes.c_double, "i1": ctypes.c_bool, "float": ctypes.c_float}
ENGINES = []  # they own the code


def compiled(function, result, *arguments):
    """Return a function that was written as one of Python's."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly("\n".join([*sorted(function.declared), function.text()]))
    module.verify()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    ENGINES.append(engine)
    kinds = [KINDS.get(kind, ctypes.c_void_p) for kind in arguments]
    return ctypes.CFUNCTYPE(KINDS.get(result), *kinds)(engine.get_function_address("f"))


def whole(*names):
    """Begin a function of whole numbers."""
    code = Function("f", "i64", [("i64", name) for name in names])
    return code, *code.arguments


def run(code, *given):
    return compiled(code, "i64", *["i64"] * len(given))(*given)


@pytest.mark.parametrize("once", [False, True])
def test_a_loop_carries_values(once):
    code, n = whole("n")
    zero, one = code.constant(0, "i64"), code.constant(1, "i64")
    with code.loop(0, n, 1, [zero, one], once=once) as loop:
        a, b = loop.carried
        loop.again(b, a + b)
    code.ret(loop.results[0])
    assert [run(code, n) for n in (1, 2, 10)] == [1, 1, 55]
    assert run(code, 0) == (1 if once else 0)


def test_a_loop_goes_down():
    code, n = whole("n")
    with code.loop(n, 0, -2, [code.constant(0, "i64")]) as loop:
        loop.again(loop.carried[0] * 10 + loop.index)
    code.ret(*loop.results)
    assert [run(code, n) for n in (0, 1, 5)] == [0, 1, 531]


def test_of_a_loop_that_begins_the_first_turn_asks_nothing():
    code, _ = whole("n")
    with code.loop(0, 4, 1, [code.constant(0, "i64")]) as loop:
        loop.again(loop.carried[0] + loop.index)
    code.ret(*loop.results)
    assert run(code, 0) == 6
    assert sum("br i1" in line for line in code.lines) == 1


def test_loops_in_loops():
    code, n, m = whole("n", "m")
    with code.loop(0, n, 1, [code.constant(0, "i64")]) as rows:
        with code.loop(0, m, 1, rows.carried) as columns:
            columns.again(columns.carried[0] + rows.index * columns.index)
        rows.again(*columns.results)
    code.ret(*rows.results)
    assert run(code, 4, 5) == sum(i * j for i in range(4) for j in range(5))


def test_a_loop_without_end_is_left_with_values_and_goes_on_early():
    code, n = whole("n")  # Collatz: the steps to 1, at most 50
    with code.loop(carried=[n, code.constant(0, "i64")]) as loop:
        x, steps = loop.carried
        loop.leave(steps, unless=x > 1)
        loop.leave(code.constant(-1, "i64"), unless=steps < 50)
        with code.when((x & 1).equals(0)):
            loop.again(x >> 1, steps + 1)
        loop.again(3 * x + 1, steps + 1)
    code.ret(*loop.results)
    assert [run(code, n) for n in (1, 6, 7, 27)] == [0, 8, 16, -1]


def test_a_loop_that_is_never_left_ends_in_its_returns():
    code, n = whole("n")
    with code.loop(carried=[n]) as loop:
        loop.leave(unless=code.constant(True, "i1"))
        with code.when(loop.carried[0] > 99):
            code.ret(*loop.carried)
        loop.again(loop.carried[0] * 10)
    assert code.label is None
    assert run(code, 5) == 500


def test_the_last_question_of_a_turn():
    code, n = whole("n")
    with code.loop(carried=[code.constant(1, "i64")]) as loop:
        doubled = loop.carried[0] * 2
        loop.again(doubled, when=doubled < n)
    code.ret(*loop.results)
    assert [run(code, n) for n in (0, 2, 5, 8)] == [2, 2, 8, 8]


def test_when_with_values_elsewhere():
    code, n = whole("n")
    with code.when(n < 0, n) as branch:
        branch.give(-n)
    code.ret(*branch.values)
    assert [run(code, n) for n in (-3, 3)] == [3, 3]


@pytest.mark.parametrize(("yes", "no"), [(False, False), (True, False), (False, True), (True, True)])
def test_when_and_otherwise(yes, no):
    """A branch may end in a return of its own."""
    code, n = whole("n")
    with code.when(n < 10) as branch:
        if yes:
            code.ret(n + 1)
        branch.give(n + 1)
    with branch.otherwise():
        branch.give(n * 2)
        if no:
            code.ret(n * 2)
    if not (yes and no):
        code.ret(*branch.values)
    assert code.label is None
    assert [run(code, n) for n in (5, 20)] == [6, 40]


def test_when_a_branch_with_values_elsewhere_returns():
    code, n = whole("n")
    with code.when(n < 0, n) as branch:
        code.ret(-n)
    code.ret(*branch.values)
    assert [run(code, n) for n in (-3, 3)] == [3, 3]


def test_unless():
    code, n = whole("n")
    with code.unless(n < 10, n) as branch:
        branch.give(n * 2)
    code.ret(*branch.values)
    assert [run(code, n) for n in (5, 20)] == [5, 40]


def test_when_within_when():
    code, n = whole("n")
    one, two, three = (code.constant(k, "i64") for k in (1, 2, 3))
    with code.when(n > 0, one) as outer:
        with code.when(n > 10) as inner:
            inner.give(two)
        with inner.otherwise():
            inner.give(three)
        outer.give(*inner.values)
    code.ret(*outer.values)
    assert [run(code, n) for n in (0, 5, 11)] == [1, 3, 2]


@pytest.mark.parametrize("default", [False, True])
def test_switch(default):
    code, n = whole("n")
    place = code.alloca("i64")
    code.store(code.constant(-1, "i64"), place)
    with code.switch(n) as switch:
        with switch.case(1, 3):
            code.store(n * 100, place)
        with switch.case(2):
            code.ret(code.constant(7, "i64"))
        if default:
            with switch.case():
                code.store(code.constant(5, "i64"), place)
    code.ret(code.load(place, 0, "i64"))
    assert [run(code, n) for n in (1, 2, 3, 4)] == [100, 7, 300, 5 if default else -1]


def test_switch_with_values():
    code, n = whole("n")
    with code.switch(n) as switch:
        with switch.case(1):
            switch.give(n + 10)
        with switch.case():
            switch.give(n + 20)
    code.ret(*switch.values)
    assert [run(code, n) for n in (1, 2)] == [11, 22]


def test_a_block_is_left_from_deep_within():
    code, n, m = whole("n", "m")  # the first pair with i * j == m
    with code.block() as found:
        with code.loop(0, n) as rows, code.loop(0, n) as columns:
            pair = rows.index * 100 + columns.index
            found.leave(pair, unless=code.compare("ne", rows.index * columns.index, m))
        found.leave(code.constant(-1, "i64"))
    code.ret(*found.results)
    assert [run(code, 9, m) for m in (12, 49, 11)] == [206, 707, -1]


def test_a_block_that_nobody_leaves_costs_nothing():
    code, n = whole("n")
    with code.block():
        more = n + 1
    code.ret(more)
    assert len(code.lines) == 2


def test_what_is_known_on_every_way_is_not_computed_again():
    code, n = whole("n")
    square = n * n
    with code.when(n > 3) as branch:
        assert (n * n).text == square.text
        inside = n + 1
    with branch.otherwise():
        assert (n + 1).text != inside.text
    assert (n * n).text == square.text
    assert (n + 1).text != inside.text
    with code.loop(0, 3):
        assert (n * n).text == square.text
    code.ret(square)
    assert run(code, 5) == 25


def test_a_call_goes_on_where_another_one_left():
    code = Function("f", "i64", ["state"])
    (state,) = code.arguments
    code.resumable(state)
    seen = code.hoist("getelementptr i64, ptr %state, i64 1", "ptr")
    with code.loop() as loop:
        count = code.load(seen, 0, "i64")
        loop.leave(unless=count < 3)
        code.store(count + 1, seen)
        with code.when((count & 1).equals(0)):
            code.suspend(code.load(code.at(state, 1, "i64"), 0, "i64"))
    code.ret(code.constant(-1, "i64"))
    memory = (ctypes.c_int64 * 2)(0, 0)
    call = compiled(code, "i64", "ptr")
    assert [call(memory) for _ in range(3)] == [1, 3, -1]


def test_functions_of_doubles_bools_and_lanes():
    code = Function("f", "double", [("double", "x"), ("double", "y")])
    x, y = code.arguments
    lanes = code.splat(x, 8) + code.cast(code.numbered(8, "i32").to("sitofp", "double"), "double")
    total = code.folded(lambda code, a, b: a + b, lanes)
    least = -code.across("fmax", -lanes)
    some = code.any(lanes > y)
    chosen = code.select(some & ~(x < 0.0), 1.0 - total / least, abs(x).with_sign(y))
    code.ret(code.select(chosen.is_finite(), chosen, code.cast(literal(7), "double")))
    call = compiled(code, "double", "double", "double")
    assert call(2.0, 3.0) == 1.0 - sum(2.0 + k for k in range(8)) / 2.0
    assert call(-2.0, -1.0) == -2.0
    assert call(-2.0, 100.0) == 2.0
    assert call(math.nan, 1.0) == 7.0


def test_bools_are_bytes_in_memory():
    code = Function("f", "i1", ["given"])
    (given,) = code.arguments
    code.store(~code.load(given, 0, "i1"), given, 1)
    code.ret(code.load(given, 1, "i1"))
    memory = (ctypes.c_uint8 * 2)(0, 9)
    assert compiled(code, "i1", "ptr")(memory)
    assert list(memory) == [0, 1]


def test_constants_are_exact():
    code = Code()
    assert code.constant(0.1, "double").text == "0x3FB999999999999A"
    assert code.constant(0.1, "float").text == "0x3FB99999A0000000"
    assert code.constant(1e300, "float").text == code.constant(math.inf, "float").text
    assert code.cast(code.constant(0.1, "float"), "double").text == "0x3FB99999A0000000"
    assert (-code.constant(2.0, "double")).constant == -2.0
    assert code.splat(code.constant(3, "i32"), 4).text == "splat (i32 3)"
    assert not code.lines
