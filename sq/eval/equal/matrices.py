"""Matrices: arithmetic on them cell by cell, so that `A + B` answers the matrix it is."""

from __future__ import annotations

from sq.eval.equal.rational import exact
from sq.eval.equal.tree import Matrix, Node, Num, Op, Quantity, Seq, Sym, children, walk

MAX_CELLS = 200
MAX_MATRICES = 6
"""Matrices in one expression, where their cells are not all plain numbers: a product of symbols doubles with each."""


def as_matrix(node: Node) -> Matrix | None:
    """The matrix a node stands for once its sums, products and scalar factors are carried out; None if it is none."""
    if isinstance(node, Matrix):
        return node
    if isinstance(node, Quantity):
        return None
    if not isinstance(node, Op):
        return None
    if node.op == "pow" and node.args[1] == Sym("T"):
        return _transposed(node.args[0])
    matrices = [n for n in walk(node) if isinstance(n, Matrix)]
    if not matrices or len(matrices) > MAX_CELLS:
        return None
    if len(matrices) > MAX_MATRICES and any(exact(cell) is None for matrix in matrices for cell in children(matrix)):
        return None
    parts = [as_matrix(a) for a in node.args]
    if node.op == "neg" and parts[0] is not None:
        return _scaled(Op("neg", ()), parts[0])
    if node.op == "add":
        return _sum(parts)
    if node.op == "mul" and len(parts) == 2:
        return _product(node, parts[0], parts[1])
    return None


def as_column(node: Node) -> tuple[Node, ...] | None:
    """The entries of a column or row vector."""
    matrix = as_matrix(node)
    if matrix is None:
        return None
    if all(len(row) == 1 for row in matrix.rows):
        return tuple(row[0] for row in matrix.rows)
    return matrix.rows[0] if len(matrix.rows) == 1 else None


def vector(node: Node) -> tuple[Node, ...] | None:
    """The items of a tuple or bare list, for comparison with a column."""
    if isinstance(node, Seq) and node.left in ("(", "<<", "", "[") and node.right not in ("or",):
        return node.items
    return None


def of_rows(node: Node) -> Matrix | None:
    """The matrix that `[[1, 2], [3, 4]]` writes, row by row."""
    if not (isinstance(node, Seq) and node.left in ("(", "[") and len(node.items) > 1):
        return None
    if not all(isinstance(i, Seq) and i.left in ("(", "[") and len(i.items) > 1 for i in node.items):
        return None
    return Matrix(tuple(i.items for i in node.items if isinstance(i, Seq)))


def _transposed(node: Node) -> Matrix | None:
    if isinstance(node, Seq) and node.left in ("(", "[", "<<") and node.items:
        return Matrix(tuple((item,) for item in node.items))
    matrix = as_matrix(node)
    if matrix is None or len({len(row) for row in matrix.rows}) != 1:
        return None
    return Matrix(tuple(zip(*matrix.rows, strict=True)))


def _scaled(sign: Op, matrix: Matrix) -> Matrix:
    return Matrix(tuple(tuple(Op(sign.op, (*sign.args, c)) for c in row) for row in matrix.rows))


def _summed(terms: tuple[Node, ...]) -> Node:
    """A sum, as one number where it is one, so that products of many matrices stay small."""
    value = exact(Op("add", terms))
    return Op("add", terms) if value is None else Num(value)


def _sum(parts: list[Matrix | None]) -> Matrix | None:
    present = [p for p in parts if p is not None]
    shapes = {tuple(len(r) for r in p.rows) for p in present}
    if len(present) != len(parts) or len(shapes) != 1:
        return None
    rows = zip(*(p.rows for p in present), strict=True)
    return Matrix(tuple(tuple(Op("add", cells) for cells in zip(*group, strict=True)) for group in rows))


def _product(node: Op, a: Matrix | None, b: Matrix | None) -> Matrix | None:
    if a is None and b is None:
        return None
    if a is None or b is None:
        matrix, scalar = (b, node.args[0]) if a is None else (a, node.args[1])
        return None if matrix is None else _scaled(Op("mul", (scalar,)), matrix)
    inner = len(b.rows)
    widths = {len(r) for r in b.rows}
    if len(widths) != 1 or any(len(r) != inner for r in a.rows) or len(a.rows) * inner > MAX_CELLS:
        return None
    columns = tuple(zip(*b.rows, strict=True))
    return Matrix(
        tuple(
            tuple(_summed(tuple(Op("mul", pair) for pair in zip(row, col, strict=True))) for col in columns)
            for row in a.rows
        )
    )
