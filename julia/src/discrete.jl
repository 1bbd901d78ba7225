# Discretise-then-optimise: the exact derivative of the steps that an explicit tableau takes, swept
# backwards over the recorded states, in place.

# Numbers of memory for which the evaluations of all steps are kept; beyond it they are repeated.
const KEPT_NUMBERS = 2^24

"""Buffers of the forward and reverse sweeps for one network, tableau and number of steps."""
struct Sweep{T}
    network::Network{T}
    tableau::Tableau
    tapes::Vector{Tape{T}} # stages of one step, or of all
    kept::Bool
    ks::Vector{Vector{T}}
    bars::Vector{Vector{T}}
    stage::Vector{T}
end

"""`steps` is how many a forward sweep here takes; 0 if the steps come from elsewhere."""
function Sweep(network::Network{T}, tableau::Tableau, steps::Integer) where {T}
    s = stages(tableau)
    kept = steps > 0 && steps * s * tape_length(network) <= KEPT_NUMBERS
    n = state_size(network.field) * network.batch
    tapes = [new_tape(network) for _ in 1:(kept ? steps * s : s)]
    return Sweep{T}(network, tableau, tapes, kept, [zeros(T, n) for _ in 1:s],
        [zeros(T, n) for _ in 1:s], zeros(T, n))
end

tape(sweep::Sweep, step, stage) =
    sweep.tapes[(sweep.kept ? (step - 1) * stages(sweep.tableau) : 0) + stage]

"""One step of length `h` from `(t, y)` into `y_next`, its evaluations on the tapes of `step`."""
function step!(y_next, sweep::Sweep, step::Integer, t, h, y)
    (; a, b, c) = sweep.tableau
    for i in eachindex(b)
        combine!(sweep.stage, y, h, view(a, i, :), sweep.ks, i - 1)
        forward!(sweep.ks[i], sweep.network, t + oftype(t, c[i]) * h, sweep.stage,
            tape(sweep, step, i))
    end
    return combine!(y_next, y, h, b, sweep.ks, length(b))
end

"""`out = y + h * sum(weights[j] * ks[j] for j in 1:last)`."""
function combine!(out, y, h, weights, ks, last)
    copyto!(out, y)
    for j in 1:last
        iszero(weights[j]) || add!(out, h * oftype(h, weights[j]), ks[j])
    end
    return out
end

function add!(out, factor, k)
    @inbounds @simd for i in eachindex(out, k)
        out[i] = muladd(factor, k[i], out[i])
    end
    return out
end

"""The cotangent of a step's end becomes that of its start; the weights' part is collected."""
function pull_step!(bar, sweep::Sweep, step::Integer, h)
    (; a, b) = sweep.tableau
    s = length(b)
    for i in s:-1:1
        k_bar = fill!(sweep.bars[i], 0)
        iszero(b[i]) || add!(k_bar, h * oftype(h, b[i]), bar)
        for j in (i + 1):s
            iszero(a[j, i]) || add!(k_bar, h * oftype(h, a[j, i]), sweep.bars[j])
        end
        pullback!(k_bar, sweep.network, tape(sweep, step, i))
    end
    for each in sweep.bars
        add!(bar, one(h), each)
    end
    return bar
end

"""Fixed steps from `t0` over `ends`; `states[:, i]` is where step i starts, the last column y1."""
function forward_sweep!(states::AbstractMatrix{T}, sweep::Sweep{T}, t0, ends) where {T}
    t = T(t0)
    for (i, stop) in enumerate(ends)
        h = T(stop - (i == 1 ? t0 : ends[i - 1]))
        step!(view(states, :, i + 1), sweep, i, t, h, view(states, :, i))
        t = T(stop)
    end
    return states
end

"""
    reverse_sweep!(bar, sweep, times, states; taped)

Sweep the cotangent `bar` of the last state back to the first. `taped` says that the forward sweep
has just left its evaluations on the tapes.
"""
function reverse_sweep!(bar, sweep::Sweep{T}, times, states; taped::Bool) where {T}
    for i in (length(times) - 1):-1:1
        t, h = T(times[i]), T(times[i + 1] - times[i])
        taped || step!(sweep.stage, sweep, i, t, h, view(states, :, i))
        pull_step!(bar, sweep, i, h)
    end
    return bar
end

"""
    Path(rhs, algorithm, tableau, steps, t0)

A solve to be differentiated: fixed steps run here, adaptive ones in OrdinaryDiffEq, whose accepted
steps are then differentiated at its own states, their lengths held constant.
"""
struct Path{T, A}
    rhs::RightHandSide{T}
    algorithm::A
    steps::Steps
    t0::Float64
    sweep::Sweep{T}
    states::Matrix{T}
end

function Path(rhs::RightHandSide{T}, algorithm, tableau::Tableau, steps::Steps, t0) where {T}
    n = length(steps.ends)
    size = state_size(rhs.network.field) * rhs.network.batch
    sweep = Sweep(rhs.network, tableau, n)
    states = zeros(T, size, fixed(steps) ? n + 1 : 0)
    return Path{T, typeof(algorithm)}(rhs, algorithm, steps, t0, sweep, states)
end

"""The solve from `y0`: times, states at them, evaluations, return code."""
function follow!(path::Path{T}, y0::AbstractVector{T}) where {T}
    if fixed(path.steps)
        length(path.steps.ends) <= path.steps.max_steps ||
            return [path.t0], reshape(y0, :, 1), 0, "MaxIters"
        path.states[:, 1] .= y0
        forward_sweep!(path.states, path.sweep, path.t0, path.steps.ends)
        finite = all(isfinite, view(path.states, :, size(path.states, 2)))
        nf = length(path.steps.ends) * stages(path.sweep.tableau)
        times = [path.t0; path.steps.ends]
        return times, path.states, nf, finite ? "Success" : "Unstable"
    end
    found = solve(ode_function(path.rhs, false), path.algorithm, y0, SciMLBase.NullParameters(),
        path.t0, path.steps)
    return Float64.(found.t), found.y, found.nf, found.retcode
end

"""The cotangent of `y0` from that of the final state, in place; see `follow!`."""
function pull!(bar, path::Path, times, states)
    taped = fixed(path.steps) && path.sweep.kept
    return reverse_sweep!(bar, path.sweep, times, states; taped)
end

"""
    vjp!(to_weights, bar, path, flat, y0)

Gradients of `sum(bar .* y(t1))`: to the weights into `to_weights`, to `y0` over `bar`. Returns the
return code of the solve; only after `"Success"` are there gradients.
"""
function vjp!(to_weights, bar, path::Path, flat, y0)
    load!(path.rhs, flat)
    times, states, _, code = follow!(path, y0)
    code == "Success" || return code
    pull!(bar, path, times, states)
    unload_gradient!(to_weights, path.rhs.network)
    return code
end

"""Jacobian of the map y0 -> y1 for each sample into `rows`, (column, row, sample)."""
function path_jacobian!(rows::AbstractArray{T, 3}, path::Path{T}, flat, y0) where {T}
    load!(path.rhs, flat)
    times, states, _, code = follow!(path, y0)
    code == "Success" || return code
    size, bar = Base.size(rows, 1), similar(y0)
    for row in 1:size
        fill!(bar, 0)
        bar[row:size:end] .= 1
        pull!(bar, path, times, states)
        rows[:, row, :] .= reshape(bar, size, :)
    end
    unload_gradient!(similar(flat), path.rhs.network) # leaves the collected gradient clear
    return code
end
