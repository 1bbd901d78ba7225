# A solve that keeps its steps: forward now, the derivative when it is asked for, for states at
# several times and to the times themselves. The twin of pynode_jl/backends/jax/_pullback.py.

"""
What `keep!` keeps and `pull_back!` takes. `states[:, i]` is where step i starts, `states[:, ends[j]]`
the state at the j-th saved time; times are counted from `origin`. The weights are a copy, since the
network's are everyone's.
"""
struct Kept{T, R <: RightHandSide{T}, S <: Sweep{T}, M <: AbstractMatrix{T}}
    rhs::R
    sweep::S
    flat::Vector{T}
    times::Vector{Float64}
    states::M
    ends::Vector{Int}
    origin::Float64
end

"""
    keep!(saved, rhs, sweep, algorithm, flat, y0, t0, steps)

Integrate a field with weights `flat` from `y0`, saving every step; the states at `steps.stops` are
written to `saved`, (size * batch, times). Returns a `Kept` (`nothing` after a failed solve), the
evaluations of the field and of its Jacobian, the steps accepted and rejected, the return code.
"""
function keep!(saved, rhs::RightHandSide{T}, sweep::Sweep{T}, algorithm, flat, y0, t0,
        steps::Steps) where {T}
    network, hard = rhs.network, implicit(sweep.tableau)
    found = solve_field(rhs, hard, algorithm, flat, y0, t0, steps)
    counts = (found.nf, found.njac, found.naccept, found.nreject, found.retcode)
    found.retcode == "Success" || return nothing, counts...
    ends = columns_at(steps.stops, found.t)
    copyto!(saved, view(found.y, :, ends))
    kept = Kept(rhs, sweep, Vector{T}(flat), Float64.(found.t), on_device(network, found.y), ends,
        steps.origin)
    return kept, counts...
end

"""
    pull_back!(slope, to_y0, to_times, kept, cotangents)

Gradients of `sum(cotangents .* saved)` of `keep!`: to the flat weights into `slope`, to `y0`, and
to the times `(t0, stops...)`, whose steps keep their lengths but for the last one before each stop.
"""
function pull_back!(slope, to_y0, to_times, kept::Kept{T}, cotangents) where {T}
    (; rhs, sweep, times, states, ends) = kept
    network, sweep.origin = load!(rhs, kept.flat).network, kept.origin
    bar, segment = fill!(allocate(network, size(states, 1)), 0), length(ends)
    fill!(to_times, 0)
    for i in (length(times) - 1):-1:1
        last = i + 1 == ends[segment]
        last && (bar .+= on_device(network, cotangents[:, segment]))
        t, h, y = T(times[i]), T(times[i + 1] - times[i]), view(states, :, i)
        step!(sweep.stage, sweep, i, t, h, y)
        to_t, to_h = pull_step!(bar, sweep, i, h; timed = true)
        # All steps of a segment begin later if it does; its last one is that much shorter.
        stretch = last ? to_h : zero(T)
        to_times[segment] += to_t - stretch
        to_times[segment + 1] += stretch
        segment > 1 && i == ends[segment - 1] && (segment -= 1)
    end
    unload_gradient!(slope, network)
    copyto!(to_y0, bar)
    return nothing
end
