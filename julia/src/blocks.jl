# Matrices of one dense block a sample, and their LU factors: what implicit solvers meet, since no
# layer mixes samples. No sparse library and no other package's choice of linear solver is involved.

"""
    BlockDiagonal(blocks)

A square matrix with `blocks[:, :, i]` along its diagonal, (row, column, sample), and zeros elsewhere.
"""
struct BlockDiagonal{T} <: AbstractMatrix{T}
    blocks::Array{T, 3}
    function BlockDiagonal{T}(blocks::Array{T, 3}) where {T}
        size(blocks, 1) == size(blocks, 2) || throw(DimensionMismatch(
            "blocks: expected square ones, these are $(size(blocks, 1)) by $(size(blocks, 2))."))
        return new{T}(blocks)
    end
end

BlockDiagonal(blocks::Array{T, 3}) where {T} = BlockDiagonal{T}(blocks)
BlockDiagonal{T}(size::Integer, batch::Integer) where {T} =
    BlockDiagonal{T}(zeros(T, size, size, batch))

function Base.size(A::BlockDiagonal)
    n = size(A.blocks, 1) * size(A.blocks, 3)
    return n, n
end

"""The place of element (i, j) in the blocks; sample 0 says that it is outside of them."""
@inline function place(A::BlockDiagonal, i::Integer, j::Integer)
    length = size(A.blocks, 1)
    sample, row = divrem(i - 1, length)
    other, column = divrem(j - 1, length)
    return row + 1, column + 1, sample == other ? sample + 1 : 0
end

Base.@propagate_inbounds function Base.getindex(A::BlockDiagonal{T}, i::Int, j::Int) where {T}
    @boundscheck checkbounds(A, i, j)
    row, column, sample = place(A, i, j)
    return sample == 0 ? zero(T) : @inbounds A.blocks[row, column, sample]
end

# Loops over a whole matrix write zeros outside of the blocks, and may.
Base.@propagate_inbounds function Base.setindex!(A::BlockDiagonal, value, i::Int, j::Int)
    @boundscheck checkbounds(A, i, j)
    row, column, sample = place(A, i, j)
    if sample == 0
        iszero(value) || throw(ArgumentError("[$i, $j] = $value: outside of the blocks is zero."))
    else
        @inbounds A.blocks[row, column, sample] = value
    end
    return A
end

Base.similar(A::BlockDiagonal{T}) where {T} = BlockDiagonal(similar(A.blocks))
Base.similar(A::BlockDiagonal, ::Type{S}) where {S} = BlockDiagonal(similar(A.blocks, S))
Base.copy(A::BlockDiagonal) = BlockDiagonal(copy(A.blocks))
Base.zero(A::BlockDiagonal) = BlockDiagonal(zero(A.blocks))
# Of the blocks alone: a solver fills a matrix to say which elements there are.
Base.fill!(A::BlockDiagonal, value) = (fill!(A.blocks, value); A)

function Base.copyto!(A::BlockDiagonal, B::BlockDiagonal)
    size(A.blocks) == size(B.blocks) || throw(DimensionMismatch("blocks of two kinds"))
    copyto!(A.blocks, B.blocks)
    return A
end

function LinearAlgebra.opnorm(A::BlockDiagonal, p::Real = 2)
    return maximum(block -> opnorm(block, p), eachslice(A.blocks; dims = 3))
end

LinearAlgebra.ishermitian(A::BlockDiagonal) = all(ishermitian, eachslice(A.blocks; dims = 3))

function LinearAlgebra.mul!(y::AbstractVector, A::BlockDiagonal, x::AbstractVector,
        alpha::Number, beta::Number)
    length(y) == size(A, 1) && length(x) == size(A, 2) ||
        throw(DimensionMismatch("a matrix of $(size(A)) on $(length(x)) numbers into $(length(y))"))
    n = size(A.blocks, 1)
    @inbounds for sample in axes(A.blocks, 3)
        first = (sample - 1) * n
        for i in 1:n
            total = zero(promote_type(eltype(A), eltype(x)))
            for j in 1:n
                total += A.blocks[i, j, sample] * x[first + j]
            end
            y[first + i] = iszero(beta) ? alpha * total : alpha * total + beta * y[first + i]
        end
    end
    return y
end

"""LU factors of the blocks of a matrix, with their row exchanges: see `factor!`."""
struct BlockFactors{T}
    blocks::Array{T, 3}
    pivots::Matrix{Int}
end

BlockFactors(A::BlockDiagonal) =
    BlockFactors(copy(A.blocks), zeros(Int, size(A.blocks, 1), size(A.blocks, 3)))

"""Factor `A` into `factors`; false if a block is singular, or not finite."""
function factor!(factors::BlockFactors{T}, A::BlockDiagonal{T}) where {T}
    copyto!(factors.blocks, A.blocks)
    return factor!(factors)
end

"""Factor the blocks that stand in `factors`, in place: Gaussian elimination, rows exchanged."""
function factor!(factors::BlockFactors)
    regular = true
    for sample in axes(factors.blocks, 3)
        regular &= eliminate!(factors.blocks, factors.pivots, sample)
    end
    return regular
end

function eliminate!(blocks::Array{T, 3}, pivots, sample) where {T}
    n, regular = size(blocks, 1), true
    @inbounds for k in 1:n
        best, largest = k, abs(blocks[k, k, sample])
        for i in (k + 1):n
            size_here = abs(blocks[i, k, sample])
            size_here > largest && ((best, largest) = (i, size_here))
        end
        pivots[k, sample] = best
        # Not `iszero`: a NaN is no pivot either.
        largest > 0 && isfinite(largest) || (regular = false; continue)
        if best != k
            for j in 1:n
                blocks[k, j, sample], blocks[best, j, sample] =
                    blocks[best, j, sample], blocks[k, j, sample]
            end
        end
        inverse = inv(blocks[k, k, sample])
        for i in (k + 1):n
            blocks[i, k, sample] *= inverse
        end
        for j in (k + 1):n
            factor = blocks[k, j, sample]
            @simd for i in (k + 1):n
                blocks[i, j, sample] -= blocks[i, k, sample] * factor
            end
        end
    end
    return regular
end

"""Solve with the factored matrix, in place of `x`: one segment of it a block."""
function divide!(x::AbstractVector, factors::BlockFactors)
    (; blocks, pivots) = factors
    n = size(blocks, 1)
    @inbounds for sample in axes(blocks, 3)
        first = (sample - 1) * n
        for k in 1:n
            other = pivots[k, sample]
            other == k || ((x[first + k], x[first + other]) = (x[first + other], x[first + k]))
        end
        for j in 1:n
            value = x[first + j]
            @simd for i in (j + 1):n
                x[first + i] -= blocks[i, j, sample] * value
            end
        end
        for j in n:-1:1
            value = x[first + j] / blocks[j, j, sample]
            x[first + j] = value
            @simd for i in 1:(j - 1)
                x[first + i] -= blocks[i, j, sample] * value
            end
        end
    end
    return x
end

"""Solve with the transpose of the factored matrix, in place of `x`."""
function divide_transposed!(x::AbstractVector, factors::BlockFactors)
    (; blocks, pivots) = factors
    n = size(blocks, 1)
    @inbounds for sample in axes(blocks, 3)
        first = (sample - 1) * n
        for i in 1:n
            value = x[first + i]
            for j in 1:(i - 1)
                value -= blocks[j, i, sample] * x[first + j]
            end
            x[first + i] = value / blocks[i, i, sample]
        end
        for i in n:-1:1
            value = x[first + i]
            for j in (i + 1):n
                value -= blocks[j, i, sample] * x[first + j]
            end
            x[first + i] = value
        end
        for k in n:-1:1
            other = pivots[k, sample]
            other == k || ((x[first + k], x[first + other]) = (x[first + other], x[first + k]))
        end
    end
    return x
end
