# Jacobians of a function written in Julia, by dual numbers.

module PyNODEForwardDiffExt

using ForwardDiff: ForwardDiff, Dual, Partials, Tag
using PyNODE: PyNODE

"""Marks this package's own dual numbers."""
struct OfSample end

# Numbers of a sample seeded at once, at most.
const WIDTH = 8

function PyNODE.dual_jacobian!(blocks::Array{T, 3}, f, y, p, t) where {T}
    return by_chunks!(blocks, f, y, p, t, Val(min(size(blocks, 1), WIDTH)))
end

function by_chunks!(blocks::Array{T, 3}, f, y, p, t, ::Val{N}) where {T, N}
    n, seeds = size(blocks, 1), ForwardDiff.construct_seeds(Partials{N, T})
    D = Dual{typeof(Tag(OfSample(), T)), T, N}
    states, slopes = Vector{D}(undef, length(y)), Vector{D}(undef, length(y))
    for before in 0:N:(n - 1)
        for i in eachindex(y)
            seed = mod1(i, n) - before
            states[i] = D(y[i], 1 <= seed <= N ? seeds[seed] : zero(Partials{N, T}))
        end
        f(slopes, states, p, t)
        for i in eachindex(y), seed in 1:min(N, n - before)
            sample, row = divrem(i - 1, n) .+ 1
            blocks[row, before + seed, sample] = ForwardDiff.partials(slopes[i], seed)
        end
    end
    return nothing
end

function PyNODE.dual_time_derivative!(dT::Vector{T}, f, y, p, t) where {T}
    D = Dual{typeof(Tag(OfSample(), T)), T, 1}
    slopes = Vector{D}(undef, length(y))
    # Dual states too, with no part of their own: scratch that `f` makes like them takes the slopes.
    f(slopes, D.(y), p, D(t, ForwardDiff.Partials((one(T),))))
    dT .= ForwardDiff.partials.(slopes, 1)
    return nothing
end

end
