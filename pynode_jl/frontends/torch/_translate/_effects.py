"""What a Python function can read and write beyond its arguments, by its bytecode.

The order of the instructions plays no part: what is named here is all that a call can touch, on
whatever path. A function that does anything unknown is refused, so a new Python's instructions
cost speed at most. Sources would be no proof: a file may have changed since it was imported.
"""

from __future__ import annotations

import dis
from functools import lru_cache
from types import CodeType
from typing import NamedTuple


class Effects(NamedTuple):
    """What a function's code names beyond its arguments and local variables.

    Attributes:
        refusal: what it does that is no plain computation; "" if nothing.
        globals: global names, each with the attributes taken of it: ``("torch", "tanh")``.
        cells: names of the enclosing functions, likewise.
        attributes: the attributes that it takes of any other value.
    """

    refusal: str
    globals: frozenset[tuple[str, ...]] = frozenset()
    cells: frozenset[tuple[str, ...]] = frozenset()
    attributes: frozenset[str] = frozenset()


#: Instructions without a value of their own, which may stand between a name and its attribute.
_SILENT = {
    "CACHE", "COPY_FREE_VARS", "EXTENDED_ARG", "KW_NAMES", "MAKE_CELL", "NOP", "NOT_TAKEN",
    "PRECALL", "PUSH_NULL", "RESUME",
}  # fmt: skip
#: Instructions that touch nothing but constants, the stack and local variables. What an operator,
#: a call or an iteration does is up to its operands, all of which come from names.
_PLAIN = {
    "BINARY_OP", "BINARY_SLICE", "BINARY_SUBSCR", "BUILD_CONST_KEY_MAP", "BUILD_LIST", "BUILD_MAP",
    "BUILD_SLICE", "BUILD_TUPLE", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "COMPARE_OP",
    "CONTAINS_OP", "COPY", "DELETE_FAST", "DICT_MERGE", "END_FOR", "FOR_ITER", "GET_ITER", "IS_OP",
    "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_FORWARD", "JUMP_IF_FALSE_OR_POP",
    "JUMP_IF_TRUE_OR_POP", "LIST_EXTEND", "LIST_TO_TUPLE", "LOAD_CONST", "LOAD_FAST",
    "LOAD_FAST_BORROW", "LOAD_FAST_BORROW_LOAD_FAST_BORROW", "LOAD_FAST_CHECK",
    "LOAD_FAST_LOAD_FAST", "LOAD_SMALL_INT", "POP_ITER", "POP_JUMP_BACKWARD_IF_FALSE",
    "POP_JUMP_BACKWARD_IF_NONE", "POP_JUMP_BACKWARD_IF_NOT_NONE", "POP_JUMP_BACKWARD_IF_TRUE",
    "POP_JUMP_FORWARD_IF_FALSE", "POP_JUMP_FORWARD_IF_NONE", "POP_JUMP_FORWARD_IF_NOT_NONE",
    "POP_JUMP_FORWARD_IF_TRUE", "POP_JUMP_IF_FALSE", "POP_JUMP_IF_NONE", "POP_JUMP_IF_NOT_NONE",
    "POP_JUMP_IF_TRUE", "POP_TOP", "RETURN_CONST", "RETURN_VALUE", "STORE_FAST",
    "STORE_FAST_LOAD_FAST", "STORE_FAST_STORE_FAST", "SWAP", "TO_BOOL", "UNARY_INVERT",
    "UNARY_NEGATIVE", "UNARY_NOT", "UNARY_POSITIVE", "UNPACK_SEQUENCE",
}  # fmt: skip
_ATTRIBUTES = {"LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"}
_GLOBALS, _CELLS = {"LOAD_GLOBAL"}, {"LOAD_DEREF"}
_CHANGES = {
    "DELETE_ATTR", "DELETE_GLOBAL", "STORE_ATTR", "STORE_DEREF", "STORE_GLOBAL", "STORE_NAME",
}  # fmt: skip
# `x[i] = y` names nothing.
_CHANGES_AN_ITEM = {"DELETE_SUBSCR", "STORE_SLICE", "STORE_SUBSCR"}


@lru_cache(maxsize=1024)
def effects(code: CodeType) -> Effects:
    """Return what a function of this code can touch."""
    globals_: set[tuple[str, ...]] = set()
    cells: set[tuple[str, ...]] = set()
    attributes: set[str] = set()
    chain: tuple[str, ...] = ()
    modulo = False
    chains = globals_
    for instruction in dis.get_instructions(code):
        name, value = instruction.opname, instruction.argval
        if name in _SILENT:
            if chain and instruction.is_jump_target:
                chains.add(chain)
                chain = ()
            continue
        if name in _ATTRIBUTES:
            # At a jump's target the value below may be another than that of the name before.
            if chain and not instruction.is_jump_target:
                chain = (*chain, value)
            else:
                attributes.add(value)
            continue
        if chain:
            chains.add(chain)
            chain = ()
        if name in _GLOBALS or name in _CELLS:
            chain, chains = (value,), globals_ if name in _GLOBALS else cells
        elif name in _CHANGES:
            owner = "self." if name.endswith("ATTR") else ""
            return Effects(f"Its {code.co_name} changes {owner}{value}")
        elif name in _CHANGES_AN_ITEM:
            return Effects(f"Its {code.co_name} changes an item of what it holds")
        elif name == "BINARY_OP" and instruction.argrepr in ("%", "%="):
            modulo = True
        elif name not in _PLAIN:
            return Effects(f"Its {code.co_name} is more than a formula ({name.lower()})")
    formats = any(type(each) is str and "%" in each for each in code.co_consts)
    if modulo and formats:
        return Effects(f"Its {code.co_name} formats a string, which may look at anything")
    return Effects("", frozenset(globals_), frozenset(cells), frozenset(attributes))
