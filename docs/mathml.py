"""Formulas as MathML, which browsers draw themselves: no script, and nothing from a network."""

from docutils.utils.math.latex2mathml import tex2mathml


def setup(app):
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(translator, node):
    """A formula in a line of text."""
    translator.body.append(tex2mathml(node.astext()))
    skip(node)


def block(translator, node):
    """A formula by itself."""
    translator.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    skip(node)


def skip(node):
    """Go on behind a formula: its LaTeX is not to be seen."""
    from docutils.nodes import SkipNode

    raise SkipNode
