"""Making a parsed template count what it does.

The calls are woven into the syntax tree as attributes of the environment, which no template can
name or replace. Every loop turn and every call is a step; every text and container is counted.
"""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer


class GenerationExtension(Extension):
    """``{% generation %}…{% endgeneration %}``, which marks a reply for training: text as usual."""

    tags = {"generation"}  # noqa: RUF012 - the base class declares it so

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        """Read the block and put its body in its place."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def instrumented(tree: nodes.Template, environment: Environment) -> nodes.Template:
    """Weave the counting into a parsed template, in place."""
    _Weaver().visit(tree)
    tree.set_environment(environment)  # the new nodes do not have one yet
    return tree


class _Weaver(NodeTransformer):
    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        self.generic_visit(node, *args, **kwargs)
        match node:
            case nodes.For():
                node.body.insert(0, _statement("step", [], node))
            case nodes.Output():
                fixed = [part.data for part in node.nodes if isinstance(part, nodes.TemplateData)]
                chars = nodes.Const(sum(map(len, fixed)), lineno=node.lineno)
                return [_statement("spend", [chars], node), node]
            case nodes.Concat():
                return _call("concatenated", node.nodes, node)
            case nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load"):
                return _call("value", [node], node)
        return node


def _statement(name: str, arguments: list[nodes.Expr], at: nodes.Node) -> nodes.ExprStmt:
    return nodes.ExprStmt(_call(name, arguments, at), lineno=at.lineno)


def _call(name: str, arguments: list[nodes.Expr], at: nodes.Node) -> nodes.Call:
    function = nodes.EnvironmentAttribute(name, lineno=at.lineno)
    return nodes.Call(function, arguments, [], None, None, lineno=at.lineno)
