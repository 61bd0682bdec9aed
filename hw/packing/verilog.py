# SPDX-License-Identifier: Apache-2.0
"""Verilog of the datapath of one packed word, one module a stage; P is at the registers' output.

    <name>_operands   lanes w0.., a0.. -> the words on the two ports
    <name>_constant   C of equation (P) of `hw.packing.plan`; `stored` is the part that depends on
                      the weights and is kept beside them
    <name>_multiply   P <= (first ? 0 : P) + W A + C, the one multiplication
    <name>_product    those three: lanes -> P
    <name>_track      tag1.. of fields 1..: known sums mod 2^t, or carries counted ("canary")
    <name>_decode     P and tags -> sum0..: sums u over the products since `start`
    <name>            all of them; `first`, `last` mark a chain's ends and come with the operands,
                      sums are complete after the clock edge that takes the operands of `last`

Lanes are slices of the word's part (`hw.packing.emulate.weight_slice`). Accumulators and counters
are sized for `cost.REDUCTION` products. Sums of t bits are written as gates: as `+` they become
carry chains, which cost more than the few LUTs they replace.
"""

from collections.abc import Iterable
from itertools import pairwise

from hw.device import dsp
from hw.packing.cost import (
    REDUCTION,
    carry_bits,
    interval,
    lane_bits,
    signed_digits,
    sum_bits,
    sums_outside,
)
from hw.packing.plan import PackPlan, Word


def word_verilog(plan: PackPlan, index: int, name: str = "word") -> str:
    """Return the Verilog of word `index` of `plan`; equal plans give equal text."""
    word = plan.words[index]
    logic = logic_verilog(plan, word, name)
    return "\n".join([product_verilog(plan, word, name), *logic.values(), _top(plan, word, name)])


def product_verilog(plan: PackPlan, word: Word, name: str = "word") -> str:
    """Return the Verilog of what leads to P, module <name>_product."""
    stages = (_operands, constant_verilog, _multiply, _product)
    return "\n".join(stage(plan, word, name) for stage in stages)


def logic_verilog(plan: PackPlan, word: Word, name: str = "word") -> dict[str, str]:
    """Return the Verilog of the stages beside the DSP: "track" (where there is one), "decode"."""
    track = {"track": _track(plan, word, name)} if tagged(plan, word) else {}
    return {**track, "decode": _decode(plan, word, name)}


def tagged(plan: PackPlan, word: Word) -> bool:
    """Return whether the word has logic for known bits."""
    return plan.known_bits > 0 and len(word.fields) > 1


def tag_bits(plan: PackPlan, word: Word) -> tuple[int, ...]:
    """Return the bits of tag1, tag2, ..."""
    if not tagged(plan, word):
        return ()
    if plan.mode == "canary":
        return carry_bits(plan, word)
    return (plan.known_bits,) * (len(word.fields) - 1)


def value_bits(plan: PackPlan, word: Word) -> tuple[int, ...]:
    """Return the bits of each field as decoded from P."""
    return tuple(sum_bits(field, interval(plan)) for field in word.fields)


def output_bits(plan: PackPlan, word: Word) -> tuple[int, ...]:
    """Return the bits of sum0, sum1, ..."""
    if not sums_outside(plan):
        return value_bits(plan, word)
    return tuple(sum_bits(field, REDUCTION) for field in word.fields)


def _module(name: str, ports: Iterable[str], body: Iterable[str]) -> str:
    listed = ",\n".join(f"  {port}" for port in ports)
    return "\n".join([f"module {name} (", listed, ");", *body, "endmodule", ""])


def _lanes(plan: PackPlan, word: Word) -> list[str]:
    part = plan.parts[word.part]
    weight = f"input {_signed(part.w_lo < 0)}{_range(lane_bits(part))}"
    weights = [f"{weight} w{i}" for i in range(len(word.weights))]
    return weights + [f"input {_range(part.a_bits)} a{j}" for j in range(len(word.acts))]


def _signed(signed: bool) -> str:
    return "signed " if signed else ""


def _range(bits: int) -> str:
    return f"[{bits - 1}:0]"


def _operands(plan: PackPlan, word: Word, name: str) -> str:
    part = plan.parts[word.part]
    ports = [
        *_lanes(plan, word),
        f"output signed {_range(word.w_port)} w_word",
        f"output signed {_range(word.a_port)} a_word",
    ]
    body = []
    for lane, offsets, port, constant in (
        ("w", [lane.offset for lane in word.weights], word.w_port, word.w_add),
        ("a", [lane.offset for lane in word.acts], word.a_port, -word.a_sub),
    ):
        for i in range(len(offsets)):
            signed = _signed(lane == "w" and part.w_lo < 0)
            body.append(f"  wire {signed}{_range(port)} {lane}{i}_wide = {lane}{i};")
        shifted = [f"({lane}{i}_wide << {offset})" for i, offset in enumerate(offsets)]
        total = _joined(shifted, lane == "a" and _disjoint(offsets, part.a_bits))
        # In parentheses: + binds tighter than the | of disjoint lanes.
        body.append(f"  assign {lane}_word = ({total}){_literal(constant, port)};")
    return _module(f"{name}_operands", ports, body)


def _disjoint(offsets: Iterable[int], bits: int) -> bool:
    return all(above - low >= bits for low, above in pairwise(offsets))


def _joined(values: list[str], disjoint: bool) -> str:
    return (" | " if disjoint else " + ").join(values)


def _literal(constant: int, bits: int) -> str:
    """Return the addition of a constant modulo 2^bits, nothing where it is 0."""
    return f" + {bits}'d{constant % (1 << bits)}" if constant else ""


def constant_verilog(plan: PackPlan, word: Word, name: str = "word") -> str:
    """Return the Verilog of C, module <name>_constant."""
    part, p_bits = plan.parts[word.part], dsp(plan.dsp).p_bits
    ports = [
        f"input {_range(p_bits)} stored",
        f"input signed {_range(word.a_port)} a_word",
        f"output {_range(p_bits)} c",
    ]
    weights, acts = (sum(1 << lane.offset for lane in lanes) for lanes in (word.weights, word.acts))
    fixed = -part.zero_point(plan.zero, 0) * weights * acts
    base = "stored" if plan.biased else f"{p_bits}'d{fixed % (1 << p_bits)}"
    flush = [
        f" {'-' if sign > 0 else '+'} (wide << {bit})" for sign, bit in signed_digits(word.w_add)
    ]
    body = [
        f"  wire signed {_range(p_bits)} wide = a_word;",
        f"  assign c = {base}{''.join(flush)};",
    ]
    return _module(f"{name}_constant", ports, body)


def _multiply(plan: PackPlan, word: Word, name: str) -> str:
    p_bits = dsp(plan.dsp).p_bits
    ports = [
        "input clk",
        "input first",
        f"input signed {_range(word.w_port)} w_word",
        f"input signed {_range(word.a_port)} a_word",
        f"input {_range(p_bits)} c",
        f"output reg {_range(p_bits)} p",
    ]
    body = [
        f"  wire signed {_range(word.w_port + word.a_port)} product = w_word * a_word;",
        f"  wire signed {_range(p_bits)} wide = product;",
        f"  always @(posedge clk) p <= (first ? {p_bits}'d0 : p) + wide + c;",
    ]
    return _module(f"{name}_multiply", ports, body)


def _gates(t: int) -> list[str]:
    """Return Verilog functions on t-bit values: sum, product, comparison."""
    bits = _range(t)
    return f"""\
  function {bits} add(input {bits} x, input {bits} y, input carry);
    integer b;
    reg c;
    begin
      c = carry;
      for (b = 0; b < {t}; b = b + 1) begin
        add[b] = x[b] ^ y[b] ^ c;
        c = (x[b] & y[b]) | (c & (x[b] ^ y[b]));
      end
    end
  endfunction
  function {bits} times(input {bits} x, input {bits} y);
    integer b;
    begin
      times = 0;
      for (b = 0; b < {t}; b = b + 1) times = add(times, {{{t}{{y[b]}}}} & (x << b), 1'b0);
    end
  endfunction
  function less(input {bits} x, input {bits} y);
    integer b;
    begin
      less = 0;
      for (b = 0; b < {t}; b = b + 1) less = (~x[b] & y[b]) | (less & ~(x[b] ^ y[b]));
    end
  endfunction""".split("\n")


def _known(plan: PackPlan, word: Word) -> list[str]:
    """Return wires known1, known2, ...: u mod 2^t of one product.

    Folded weights below 0 give w a - M w = -w (M - a), centred activations w (a - c) - z(0).
    """
    part, t = plan.parts[word.part], plan.known_bits
    bits, flips = _range(t), plan.zero == "folded" and part.w_lo < 0
    sign = f"[{lane_bits(part) - 1}]"
    centre = part.centre % (1 << t) if plan.zero == "centred" else 0
    body = []
    for i in range(len(word.weights)):
        body.append(f"  wire {bits} w{i}_low = w{i};")
        if flips:
            body.append(
                f"  wire {bits} w{i}_size = w{i}{sign} ? add(~w{i}_low, {t}'d0, 1'b1) : w{i}_low;"
            )
    for k, field in enumerate(word.fields[1:], 1):
        total = f"{t}'d{-len(field.terms) * part.zero_point(plan.zero, 0) % (1 << t)}"
        for i, j in field.terms:
            act = f"a{j}_{i}_{k}"
            value = f"a{j}{_literal(-centre, t)}"
            if flips:
                value = f"(a{j} ^ {{{part.a_bits}{{w{i}{sign}}}}})"
            body.append(f"  wire {bits} {act} = {value};")
            size = f"w{i}_size" if flips else f"w{i}_low"
            total = f"add({total}, times({size}, {act}), 1'b0)"
        body.append(f"  wire {bits} known{k} = {total};")
    return body


def _track(plan: PackPlan, word: Word, name: str) -> str:
    tags = tag_bits(plan, word)
    outputs = [f"output {_range(bits)} tag{k}" for k, bits in enumerate(tags, 1)]
    p_bits = dsp(plan.dsp).p_bits
    ports = ["input clk", "input first", "input take", *_lanes(plan, word)]
    body = [*_gates(plan.known_bits), *_known(plan, word)]
    t, summed = plan.known_bits, interval(plan) > 1
    for k, bits in enumerate(tags, 1):
        value = f"add(first ? {t}'d0 : run{k}, known{k}, 1'b0)" if summed else f"known{k}"
        body.append(f"  reg {_range(t)} run{k};")
        body.append(f"  always @(posedge clk) run{k} <= {value};")
        if plan.mode == "canary":
            body += _counter(k, word.fields[k].offset, t, bits)
        else:
            body.append(f"  assign tag{k} = run{k};")
    return _module(f"{name}_track", [*ports, f"input {_range(p_bits)} p", *outputs], body)


def _counter(k: int, offset: int, t: int, bits: int) -> list[str]:
    """Return the carry counter of lane k: the t low bits of the count are what the lane's t low
    bits have beyond the known sum; the rest counts how often they wrapped.
    """
    low = f"  wire {_range(t)} low{k} = add(p[{offset} +: {t}], ~run{k}, 1'b1);"
    if bits == t:
        return [low, f"  assign tag{k} = low{k};"]
    return [
        low,
        f"  reg {_range(bits)} count{k};",
        f"  wire {_range(bits - t)} high{k} = count{k}[{bits - 1}:{t}]"
        f" + less(low{k}, count{k}{_range(t)});",
        f"  assign tag{k} = {{high{k}, low{k}}};",
        f"  always @(posedge clk) count{k} <= take ? {bits}'d0 : tag{k};",
    ]


def _decode(plan: PackPlan, word: Word, name: str) -> str:
    values, outputs = value_bits(plan, word), output_bits(plan, word)
    ports = [
        *("input clk", "input take", "input start", f"input {_range(dsp(plan.dsp).p_bits)} p"),
        *(f"input {_range(bits)} tag{k}" for k, bits in enumerate(tag_bits(plan, word), 1)),
        *(f"output {_range(bits)} sum{k}" for k, bits in enumerate(outputs)),
    ]
    if not tagged(plan, word):
        body = [
            f"  wire {_range(bits)} u{k} = p[{field.offset} +: {bits}];"
            for k, (field, bits) in enumerate(zip(word.fields, values, strict=True))
        ]
    elif plan.mode == "canary":
        body = _lanes_and_counts(plan, word)
    else:
        body = [*_gates(plan.known_bits), *_overlaps(plan, word)]
    for k, bits in enumerate(outputs):
        if sums_outside(plan):
            body += [
                f"  reg {_range(bits)} acc{k};",
                f"  assign sum{k} = (start ? {bits}'d0 : acc{k}) + u{k};",
                f"  always @(posedge clk) if (take) acc{k} <= sum{k};",
            ]
        else:
            body.append(f"  assign sum{k} = u{k};")
    return _module(f"{name}_decode", ports, body)


def _lanes_and_counts(plan: PackPlan, word: Word) -> list[str]:
    """Return wires u0..: lane + 2^delta (carries out) - carries in."""
    body = []
    offsets, bits = [field.offset for field in word.fields], value_bits(plan, word)
    for k, offset in enumerate(offsets):
        top = k + 1 == len(offsets)
        lane = f"p[{offset} +: {bits[k] if top else offsets[k + 1] - offset}]"
        value = lane if top else f"{{tag{k + 1}, {lane}}}"
        body.append(f"  wire {_range(bits[k])} u{k} = {value}{f' - tag{k}' if k else ''};")
    return body


def _overlaps(plan: PackPlan, word: Word) -> list[str]:
    """Return wires u0.. by the decode rule of `hw.packing.plan`, low to high.

    over<k>: the t bits of u_(k-1) that lie above f_k. Without them the t low bits of field k are
    tag<k>, so only the borrow and the bits above, rest<k>, are computed. under<k>: the borrow goes
    through all of rest<k>; its t upper bits are then ones, and over<k+1> is no greater.
    """
    t, p_bits, body = plan.known_bits, dsp(plan.dsp).p_bits, []
    for k, field in enumerate(word.fields):
        top = k + 1 == len(word.fields)
        rest = p_bits - field.offset - t if top else field.bits - t
        above = f"p[{field.offset + t} +: {rest}]"
        under = f" | under{k - 1}" if k > 1 else ""
        if k:
            body.append(f"  wire borrow{k} = less(high{k - 1}, over{k}){under};")
        if k and not top:
            body.append(f"  wire under{k};")
            body.append(f"  wire {_range(rest)} rest{k};")
            body.append(f"  assign {{under{k}, rest{k}}} = {{1'b0, {above}}} - borrow{k};")
        else:
            body.append(f"  wire {_range(rest)} rest{k} = {above}{f' - borrow{k}' if k else ''};")
        known = f"tag{k}" if k else f"p[{field.offset} +: {t}]"
        upper = f"rest{k}"
        if not top:
            body.append(f"  wire {_range(t)} high{k} = rest{k}[{rest - 1} -: {t}];")
            body.append(f"  wire {_range(t)} over{k + 1} = add(high{k}, ~tag{k + 1}, 1'b1);")
            middle = f", rest{k}[{rest - t - 1}:0]" if rest > t else ""
            upper = f"over{k + 1}{middle}"
        body.append(f"  wire {_range(value_bits(plan, word)[k])} u{k} = {{{upper}, {known}}};")
    return body


def _product(plan: PackPlan, word: Word, name: str) -> str:
    p_bits = dsp(plan.dsp).p_bits
    ports = [
        *("input clk", "input first", *_lanes(plan, word)),
        f"input {_range(p_bits)} stored",
        f"output {_range(p_bits)} p",
    ]
    body = [
        f"  wire signed {_range(word.w_port)} w_word;",
        f"  wire signed {_range(word.a_port)} a_word;",
        f"  wire {_range(p_bits)} c;",
        _instance(f"{name}_operands", [*_lane_names(word), "w_word", "a_word"]),
        _instance(f"{name}_constant", ["stored", "a_word", "c"]),
        _instance(f"{name}_multiply", ["clk", "first", "w_word", "a_word", "c", "p"]),
    ]
    return _module(f"{name}_product", ports, body)


def _top(plan: PackPlan, word: Word, name: str) -> str:
    lanes, tags, outputs = _lane_names(word), tag_bits(plan, word), output_bits(plan, word)
    p_bits = dsp(plan.dsp).p_bits
    ports = [
        *("input clk", "input first", "input last", "input start", *_lanes(plan, word)),
        f"input {_range(p_bits)} stored",
        *(f"output {_range(bits)} sum{k}" for k, bits in enumerate(outputs)),
    ]
    body = [
        f"  wire {_range(p_bits)} p;",
        "  reg take, begins;",
        "  always @(posedge clk) {take, begins} <= {last, start};",
        _instance(f"{name}_product", ["clk", "first", *lanes, "stored", "p"]),
    ]
    names = [f"tag{k}" for k in range(1, len(tags) + 1)]
    if tags:
        body += [f"  wire {_range(b)} {tag};" for tag, b in zip(names, tags, strict=True)]
        body.append(_instance(f"{name}_track", ["clk", "first", "take", *lanes, "p", *names]))
    sums = [f"sum{k}" for k in range(len(outputs))]
    body.append(_instance(f"{name}_decode", ["clk", "take", "begins->start", "p", *names, *sums]))
    return _module(name, ports, body)


def _lane_names(word: Word) -> list[str]:
    return [f"w{i}" for i in range(len(word.weights))] + [f"a{j}" for j in range(len(word.acts))]


def _instance(module: str, signals: Iterable[str]) -> str:
    """Return an instance whose ports are named like the signals ("signal->port" otherwise)."""
    pairs = (signal.split("->") for signal in signals)
    listed = ", ".join(f".{pair[-1]}({pair[0]})" for pair in pairs)
    return f"  {module} {module}_i ({listed});"
