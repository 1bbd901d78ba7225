# Discretise-then-optimise: the exact derivative of the steps that a tableau takes, swept backwards
# over the recorded states, in place. An implicit stage is differentiated through its equation (the
# implicit function theorem), not through Newton's iterations.

# Numbers of memory for which the evaluations of all steps are kept; beyond it they are repeated.
const KEPT_NUMBERS = 2^24
const NEWTON_ITERATIONS = 50

"""Buffers of the forward and reverse sweeps for one network, tableau and number of steps."""
mutable struct Sweep{T, N <: AbstractNetwork{T}, V <: AbstractVector{T}, P}
    const network::N
    const tableau::Tableau
    const tapes::Vector{P} # stages of one step, or of all
    kept::Bool
    origin::Float64 # times are counted from it
    const ks::Vector{V}
    const bars::Vector{V}
    const base::V
    const stage::V
    # Of an implicit stage: its factored Jacobian, Newton's update, and scratch of the same length.
    const newton::BlockFactors{T}
    const update::V
    const bar::V
end

"""`steps` is how many a forward sweep here takes; 0 if the steps come from elsewhere."""
function Sweep(network::AbstractNetwork{T}, tableau::Tableau, steps::Integer) where {T}
    s, size = stages(tableau), state_size(network.field)
    kept = steps > 0 && steps * s * tape_length(network) <= KEPT_NUMBERS
    vector() = allocate(network, size * network.batch)
    tapes = [new_tape(network) for _ in 1:(kept ? steps * s : s)]
    blocks = implicit(tableau) ? (size, network.batch) : (0, 0)
    scratch() = allocate(network, prod(blocks))
    return Sweep(network, tableau, tapes, kept, 0.0, [vector() for _ in 1:s],
        [vector() for _ in 1:s], vector(), vector(), BlockFactors(BlockDiagonal{T}(blocks...)), scratch(), scratch())
end

tape(sweep::Sweep, step, stage) =
    sweep.tapes[(sweep.kept ? (step - 1) * stages(sweep.tableau) : 0) + stage]

"""
    step!(y_next, sweep, step, t, h, y)

One step of length `h` from `(t, y)` into `y_next`, its evaluations on the tapes of `step`. Returns
the evaluations made; a negative number says that Newton's iteration did not converge.
"""
function step!(y_next, sweep::Sweep, step::Integer, t, h, y)
    (; a, b, c) = sweep.tableau
    evaluations = 0
    for i in eachindex(b)
        time = counted_from(sweep.origin, t + oftype(t, c[i]) * h)
        k, record = sweep.ks[i], tape(sweep, step, i)
        combine!(sweep.base, y, h, view(a, i, :), sweep.ks, i - 1)
        if implicit(sweep.tableau, i)
            made = solve_stage!(k, sweep, record, time, h * oftype(h, a[i, i]))
            made < 0 && return made
            evaluations += made
        else
            forward!(k, sweep.network, time, sweep.base, record)
            evaluations += 1
        end
    end
    combine!(y_next, y, h, b, sweep.ks, length(b))
    return evaluations
end

"""
    solve_stage!(k, sweep, tape, t, gamma)

`k = f(t, base + gamma k)` by Newton's method on each sample's block; the last evaluation stays on
`tape`. The Jacobian is kept while it contracts. Returns the evaluations made, or -1.
"""
function solve_stage!(k, sweep::Sweep{T}, tape, t, gamma) where {T}
    (; network, base, stage, newton, update) = sweep
    copyto!(stage, base)
    stale, last = true, T(Inf)
    for iteration in 1:NEWTON_ITERATIONS
        forward!(k, network, t, stage, tape)
        @. update = base + gamma * k - stage
        stale && (factor_stage!(sweep, tape, gamma) || return -1)
        divide!(update, newton)
        stage .+= update
        change = maximum(abs, update; init = zero(T))
        isfinite(change) || return -1
        # At rounding, or no nearer to it: the stage is solved.
        small = change <= 4 * eps(T) * (1 + maximum(abs, stage; init = zero(T)))
        if small || (change >= last && last <= sqrt(eps(T)))
            forward!(k, network, t, stage, tape)
            return iteration + 1
        end
        stale = change > last / 10
        last = change
    end
    return -1
end

"""
LU factors of `I - gamma J` for each sample into `sweep.newton`, J the Jacobian at the evaluation on
`tape`; false if one of them is singular.
"""
function factor_stage!(sweep::Sweep, tape, gamma)
    blocks = jacobian_blocks!(sweep.newton.blocks, sweep.network, tape, sweep.bar)
    @inbounds for sample in axes(blocks, 3), column in axes(blocks, 2)
        for row in axes(blocks, 1)
            blocks[row, column, sample] *= -gamma
        end
        blocks[column, column, sample] += 1
    end
    return factor!(sweep.newton)
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
    if on_host(out) && on_host(k)
        @inbounds @simd for i in eachindex(out, k)
            out[i] = muladd(factor, k[i], out[i])
        end
        return out
    end
    return out .= muladd.(factor, k, out)
end

# By type alone: the branch is gone from compiled code.
on_host(::Array) = true
on_host(x::SubArray) = on_host(parent(x))
on_host(x::Base.ReshapedArray) = on_host(parent(x))
on_host(::AbstractArray) = false

"""
    pull_step!(bar, sweep, step, h; timed = false)

The cotangent of a step's end becomes that of its start; the weights' part is collected. Returns the
cotangents of the step's time and of its length if `timed`, which takes the step's stages to be in
`sweep.ks`; zeros else.
"""
function pull_step!(bar, sweep::Sweep{T}, step::Integer, h; timed::Bool = false) where {T}
    (; a, b, c) = sweep.tableau
    s = length(b)
    to_t, to_h = zero(T), timed ? along(bar, b, sweep.ks, s) : zero(T)
    for i in s:-1:1
        k_bar, record = fill!(sweep.bars[i], 0), tape(sweep, step, i)
        iszero(b[i]) || add!(k_bar, h * oftype(h, b[i]), bar)
        for j in (i + 1):s
            iszero(a[j, i]) || add!(k_bar, h * oftype(h, a[j, i]), sweep.bars[j])
        end
        if implicit(sweep.tableau, i)
            # k = f(base + gamma k): the cotangent of k through its own equation.
            factor_stage!(sweep, record, h * oftype(h, a[i, i]))
            divide_transposed!(k_bar, sweep.newton)
        end
        pullback!(k_bar, sweep.network, record)
        if timed # k_bar is now the cotangent of the stage's state, y + h * sum(a[i, j] * ks[j])
            stage_to_t = time_cotangent(sweep.network)
            to_t += stage_to_t
            to_h += along(k_bar, view(a, i, :), sweep.ks, i) + T(c[i]) * stage_to_t
        end
    end
    for each in sweep.bars
        add!(bar, one(h), each)
    end
    return to_t, to_h
end

"""`sum(weights[j] * dot(bar, ks[j]) for j in 1:last)`."""
function along(bar::AbstractVector{T}, weights, ks, last) where {T}
    total = zero(T)
    for j in 1:last
        iszero(weights[j]) || (total += T(weights[j]) * dot(bar, ks[j]))
    end
    return total
end

"""
Fixed steps from `t0` over `ends`; `states[:, i]` is where step i starts, the last column y1.
Returns the evaluations made and the return code.
"""
function forward_sweep!(states::AbstractMatrix{T}, sweep::Sweep{T}, t0, ends) where {T}
    t, evaluations = T(t0), 0
    for (i, stop) in enumerate(ends)
        h = T(stop - (i == 1 ? t0 : ends[i - 1]))
        made = step!(view(states, :, i + 1), sweep, i, t, h, view(states, :, i))
        made < 0 && return evaluations, "ConvergenceFailure"
        evaluations += made
        t = T(stop)
    end
    finite = all(isfinite, view(states, :, size(states, 2)))
    return evaluations, finite ? "Success" : "Unstable"
end

"""
    reverse_sweep!(bars, sweep, times, states, ends; taped)

Sweep cotangents back to the first state, whose one is returned: `bars[:, j]` is that of
`states[:, ends[j]]`, the last state among them. `taped` says that the forward sweep has just left its
evaluations on the tapes.
"""
function reverse_sweep!(bars, sweep::Sweep{T}, times, states, ends; taped::Bool) where {T}
    segment = length(ends)
    bar = segment == 1 ? vec(bars) : bars[:, segment]
    for i in (length(times) - 1):-1:1
        t, h = T(times[i]), T(times[i + 1] - times[i])
        taped || step!(sweep.stage, sweep, i, t, h, view(states, :, i))
        pull_step!(bar, sweep, i, h)
        if segment > 1 && i == ends[segment - 1]
            segment -= 1
            add!(bar, one(T), view(bars, :, segment))
        end
    end
    return bar
end
