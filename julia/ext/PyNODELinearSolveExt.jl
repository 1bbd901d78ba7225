# The linear solver of block-diagonal matrices, in LinearSolve's interface.

module PyNODELinearSolveExt

using LinearSolve: LinearSolve, LinearCache, OperatorAssumptions, SciMLLinearSolveAlgorithm
using PyNODE: PyNODE, BlockDiagonal, BlockFactors, divide!, factor!
using SciMLBase: SciMLBase, ReturnCode

"""LU factors of each block, kept until the matrix changes."""
struct BlockLU <: SciMLLinearSolveAlgorithm end

# What a solver without a choice of its own takes. LinearSolve's general default prepares caches for
# every factorisation that it has, and of those for sparse matrices some know Float64 only.
LinearSolve.defaultalg(::BlockDiagonal, b, ::OperatorAssumptions{Bool}) = BlockLU()
LinearSolve.defaultalg(::BlockDiagonal, b, ::OperatorAssumptions{Nothing}) = BlockLU()

LinearSolve.needs_concrete_A(::BlockLU) = true
LinearSolve.default_alias_A(::BlockLU, ::BlockDiagonal, b) = true
LinearSolve.init_cacheval(::BlockLU, A::BlockDiagonal, arguments...) = BlockFactors(A)

function SciMLBase.solve!(cache::LinearCache, algorithm::BlockLU; arguments...)
    factors = cache.cacheval
    regular = true
    if cache.isfresh
        regular = factor!(factors, cache.A)
        # A matrix that could not be factored is tried again.
        cache.isfresh = !regular
    end
    code = regular ? ReturnCode.Success : ReturnCode.Failure
    regular && divide!(copyto!(cache.u, cache.b), factors)
    return SciMLBase.build_linear_solution(algorithm, cache.u, nothing, cache; retcode = code)
end

end
