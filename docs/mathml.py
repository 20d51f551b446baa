"""Write formulas as MathML, which browsers render themselves, without scripts or a network."""

from docutils.utils.math.latex2mathml import tex2mathml


def setup(app):
    """Register the renderer; Sphinx calls this."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def inline(translator, node):
    """Write a formula within a line of text."""
    translator.body.append(tex2mathml(node.astext()))
    skip(node)


def block(translator, node):
    """Write a formula on lines of its own."""
    translator.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    skip(node)


def skip(node):
    """Skip the rest of a formula's node, so that its LaTeX source does not appear."""
    from docutils.nodes import SkipNode

    raise SkipNode
