"""Compiles functions that are linked into kernels and never run by themselves.

Numba optimises each function and makes machine code of it, also of those that only other compiled
functions call; and making machine code changes the LLVM code that these then link. A helper of a
kernel needs neither: what is linked is optimised as a part of the kernel. Without them, a kernel's
first call takes about 0.85 of the time.
"""

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, PassManager
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import (
    AnnotateTypes,
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NoPythonSupportedFeatureValidation,
)


class _LinkedLibrary(JITCodeLibrary):
    """A function's LLVM code as it is linked: not optimised, and not turned into machine code."""

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._finalized = True


class _EntryPoint:
    """Stands for the function's address, by which Numba finds how to call it."""


@register_pass(mutates_CFG=True, analysis_only=False)
class _LinkedLowering(NativeLowering):
    """Lowering to a :class:`_LinkedLibrary`."""

    _name = "linked_lowering"

    def run_pass(self, state):
        state.library = _LinkedLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        entry = _EntryPoint()
        state.targetctx.insert_user_function(entry, state.cr.fndesc, [state.library])
        state.cr = state.cr._replace(cfunc=entry)
        return True


class LinkedCompiler(CompilerBase):
    """Numba's pipeline of passes, with :class:`_LinkedLowering`; for ``njit(pipeline_class=...)``.

    The function needs a dispatcher that does not look for its address.
    """

    def define_pipelines(self):
        """The one list of passes, as Numba asks for it."""
        passes = PassManager("linked")
        passes.passes.extend(DefaultPassBuilder.define_untyped_pipeline(self.state).passes)
        passes.passes.extend(DefaultPassBuilder.define_typed_pipeline(self.state).passes)
        passes.add_pass(NoPythonSupportedFeatureValidation, "check the features that are used")
        passes.add_pass(IRLegalization, "check the code before lowering")
        passes.add_pass(AnnotateTypes, "annotate types")
        passes.add_pass(_LinkedLowering, "lowering, without machine code")
        passes.add_pass(NoPythonBackend, "collect the result")
        passes.finalize()
        return [passes]
