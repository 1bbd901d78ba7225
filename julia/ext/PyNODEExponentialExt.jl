# Exponential methods on a batch: phi functions of its Jacobian, block by block.

module PyNODEExponentialExt

using ExponentialUtilities: ExponentialUtilities
using LinearAlgebra: mul!, opnorm
using OrdinaryDiffEqCore: OrdinaryDiffEqAdaptiveExponentialAlgorithm
using OrdinaryDiffEqExponentialRK: OrdinaryDiffEqExponentialRK
using PyNODE: BlockDiagonal, Derivative
using SciMLBase: ODEFunction

"""
`A` and `b`, where ExponentialUtilities has a Krylov subspace of the two. One subspace for a whole
batch would let samples depend on each other; blocks are small enough for exponentials of their own.
"""
struct ByBlocks{T}
    A::BlockDiagonal{T}
    b::Vector{T}
end

function OrdinaryDiffEqExponentialRK.alg_cache_exprb(
        ::OrdinaryDiffEqAdaptiveExponentialAlgorithm, u::Vector{T}, ::Type, uprev,
        f::ODEFunction{true, <:Any, <:Derivative}, t, p, du1, tmp, dz, orders) where {T}
    J = copy(f.jac_prototype)
    products = [Matrix{T}(undef, length(u), order + 1) for order in orders]
    return nothing, nothing, J, (ByBlocks(J, similar(u)), nothing, products)
end

function ExponentialUtilities.arnoldi!(pair::ByBlocks, A::BlockDiagonal, b; options...)
    copyto!(pair.A, A)
    copyto!(pair.b, b)
    return pair
end

"""`w[:, j + 1] = φ_j(tA) b` for j from 0 to `k`."""
function ExponentialUtilities.phiv!(w::AbstractMatrix, t::Number, pair::ByBlocks{T}, k::Integer;
        options...) where {T}
    blocks = pair.A.blocks
    n = size(blocks, 1)
    columns, extended = zeros(T, n, k), zeros(T, n + k, n + k)
    for sample in axes(blocks, 3)
        span = (sample - 1) * n .+ (1:n)
        b = view(pair.b, span)
        columns[:, 1] .= b
        E = exponential!(extended, t, view(blocks, :, :, sample), columns)
        mul!(view(w, span, 1), view(E, 1:n, 1:n), b)
        w[span, 2:end] .= view(E, 1:n, (n + 1):(n + k))
    end
    return w
end

"""`U[:, i] = Σ_j t^j φ_j(tA) B[:, j + 1]` for `t = ts[i]`."""
function ExponentialUtilities.phiv_timestep!(U::AbstractMatrix{T}, ts::Vector{S},
        A::BlockDiagonal{T}, B::AbstractMatrix{T}; options...) where {T <: Number, S <: Real}
    n, p = size(A.blocks, 1), size(B, 2) - 1
    columns, extended = zeros(T, n, p), zeros(T, n + p, n + p)
    for sample in axes(A.blocks, 3), (i, t) in enumerate(ts)
        span = (sample - 1) * n .+ (1:n)
        for j in 1:p
            columns[:, p + 1 - j] .= t^j .* view(B, span, j + 1)
        end
        E = exponential!(extended, t, view(A.blocks, :, :, sample), columns)
        u = view(U, span, i)
        mul!(u, view(E, 1:n, 1:n), view(B, span, 1))
        u .+= view(E, 1:n, n + p)
    end
    return U
end

"""
The exponential of `[tA C; 0 N]`, N with ones above its diagonal: beside `exp(tA)` stand products of
phi functions with the columns of C (Al-Mohy & Higham 2011, theorem 2.1). NaN where it is not finite.
"""
function exponential!(extended::Matrix, t, A, C)
    n, p = size(C)
    fill!(extended, 0)
    extended[1:n, 1:n] .= t .* A
    extended[1:n, (n + 1):(n + p)] .= C
    for i in (n + 1):(n + p - 1)
        extended[i, i + 1] = 1
    end
    return isfinite(opnorm(extended, 1)) ? exp(extended) : fill!(extended, NaN)
end

end
