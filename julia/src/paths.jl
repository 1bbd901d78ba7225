# A path is a solve that can be differentiated. Training and gradients see no more of it than
# `load!(path, flat)`, `follow!(path, y0)`, `saved(path, y1)` and `pull!(bars, slope, path)`.

abstract type AbstractPath{T} end

"""How many times a path's states are wanted at; the last ends it."""
stops(::AbstractPath) = 1

"""The states at the stops, (size * batch, stops), after `follow!` has returned the last one, `y1`."""
saved(::AbstractPath, y1) = y1

"""
    pull!(bars, slope, path)

Gradients of `sum(bars .* saved)` after `follow!`: to the flat weights into `slope`, and to `y0`,
which is returned. `bars` may be the last state's alone, a vector: that of `y0` is then over it.
"""
pull!(bars::AbstractMatrix, slope, path::AbstractPath) = pull!(vec(bars), slope, path)

"""
    Path(rhs, algorithm, tableau, steps, t0)

The discrete gradient: fixed steps run here, adaptive ones in OrdinaryDiffEq, whose accepted steps
are then differentiated at its own states, their lengths held constant. `states[:, i]` is where step
i starts, `states[:, ends[j]]` the state at the j-th stop.
"""
mutable struct Path{T, R, A, S, C, M <: AbstractMatrix{T}} <: AbstractPath{T}
    const rhs::R
    const algorithm::A
    const steps::Steps
    const t0::Float64
    const sweep::S
    const record::C
    const saved::M
    times::Vector{Float64}
    states::M
    ends::Vector{Int}
end

function Path(rhs::RightHandSide, algorithm, tableau::Tableau, steps::Steps, t0)
    n = length(steps.ends) <= steps.max_steps ? length(steps.ends) : 0
    network = rhs.network
    states(columns) = allocate(network, state_size(network.field) * network.batch, columns)
    times = Float64[t0; steps.ends]
    sweep = Sweep(network, tableau, n)
    sweep.origin = steps.origin
    return Path(rhs, algorithm, steps, Float64(t0), sweep, Record(network),
        states(length(steps.stops)), times, states(fixed(steps) ? n + 1 : 0),
        columns_at(steps.stops, times))
end

"""Where the stops are among the times."""
columns_at(stops, times) = [argmin(abs.(times .- stop)) for stop in stops]

stops(path::Path) = length(path.steps.stops)

function saved(path::Path, y1)
    for (i, column) in enumerate(path.ends)
        copyto!(view(path.saved, :, i), view(path.states, :, column))
    end
    return path.saved
end

"""The network that a path's weights are loaded into."""
network(path::Path) = path.rhs.network

load!(path::AbstractPath, flat) = (load!(path.rhs, flat); path)

"""
    follow!(path, y0)

Solve from `y0`: the final state, the evaluations made, the return code. What `pull!` needs is kept
in `path`.
"""
function follow!(path::Path{T}, y0::AbstractVector{T}) where {T}
    if fixed(path.steps)
        length(path.steps.ends) <= path.steps.max_steps || return y0, 0, "MaxIters"
        copyto!(view(path.states, :, 1), y0)
        nf, code = forward_sweep!(path.states, path.sweep, path.t0, path.steps.ends)
    else
        hard = implicit(path.sweep.tableau)
        seen = hard ? path.rhs : clear!(path.record)
        f = ode_function(seen, hard, y0; origin = path.steps.origin)
        found = solve(f, path.algorithm, y0, SciMLBase.NullParameters(), path.t0, path.steps)
        path.times, path.states = Float64.(found.t), on_device(network(path), found.y)
        path.ends = columns_at(path.steps.stops, path.times)
        nf, code = found.nf, found.retcode
        hard || code != "Success" || recall!(path.sweep, path.record, path.times, path.states)
    end
    return view(path.states, :, size(path.states, 2)), nf, code
end

"""
    Record(network)

A right-hand side that keeps the evaluations a solver asks for, as many as `KEPT_NUMBERS` allows: on
`tapes`, with their times, states and slopes. `count` of them are there. `spare` tapes are for what
it does not hold.
"""
mutable struct Record{N, P, T}
    const network::N
    const tapes::Vector{P}
    const spare::Vector{P}
    const times::Vector{T}
    const states::Vector{Vector{T}}
    const slopes::Vector{Vector{T}}
    const limit::Int
    count::Int
end

function Record(network::AbstractNetwork{T}) where {T}
    tapes = [new_tape(network) for _ in 1:0]
    return Record(network, tapes, copy(tapes), T[], Vector{T}[], Vector{T}[],
        KEPT_NUMBERS ÷ tape_length(network), 0)
end

clear!(record::Record) = (record.count = 0; record)

function (record::Record)(dy, y, p, t)
    record.count < record.limit && on_host(y) || return forward!(dy, record.network, t, y)
    i = record.count += 1
    if i > length(record.tapes)
        push!(record.tapes, new_tape(record.network))
        push!(record.times, t)
        push!(record.states, copy(y))
        push!(record.slopes, copy(y))
    end
    forward!(dy, record.network, t, y, record.tapes[i])
    record.times[i] = t
    copyto!(record.states[i], y)
    copyto!(record.slopes[i], dy)
    return nothing
end

"""
    recall!(sweep, record, times, states)

Put the evaluations of the accepted steps on the sweep's tapes: those of the record whose time and
state are a stage's, to rounding, and new ones where there is none. A stage's state is a sum of few
slopes; an evaluation is many times that.
"""
function recall!(sweep::Sweep{T}, record::Record, times, states) where {T}
    (; network, tableau, tapes, ks, base) = sweep
    s, n = stages(tableau), length(times) - 1
    sweep.kept = n * s <= record.limit
    resize!(tapes, sweep.kept ? n * s : s)
    if !sweep.kept
        foreach(i -> tapes[i] = spare!(record, i), 1:s)
        return sweep
    end
    begun, new = 1, 0
    for step in 1:n
        t, h, y = T(times[step]), T(times[step + 1] - times[step]), view(states, :, step)
        for i in 1:s
            time = counted_from(sweep.origin, t + T(tableau.c[i]) * h)
            combine!(base, y, h, view(tableau.a, i, :), ks, i - 1)
            found = find(record, time, base, begun)
            if found == 0
                kept = spare!(record, new += 1)
                forward!(ks[i], network, time, base, kept)
            else
                i == 1 && (begun = found)
                kept = record.tapes[found]
                copyto!(ks[i], record.slopes[found])
            end
            tapes[(step - 1) * s + i] = kept
        end
    end
    return sweep
end

function spare!(record::Record, i)
    i > length(record.spare) && push!(record.spare, new_tape(record.network))
    return record.spare[i]
end

"""The first evaluation of the record from number `begun` on at this time and state, or 0."""
function find(record::Record{<:Any, <:Any, T}, time, state, begun) where {T}
    near = 8 * eps(T)
    for i in begun:(record.count)
        abs(record.times[i] - time) <= near * (1 + abs(time)) || continue
        seen = record.states[i]
        all(j -> abs(seen[j] - state[j]) <= near * (1 + abs(state[j])), eachindex(state)) && return i
    end
    return 0
end

function pull!(bars::AbstractMatrix, slope, path::Path)
    # An implicit stage that OrdinaryDiffEq has solved is solved again.
    taped = path.sweep.kept && (fixed(path.steps) || !implicit(path.sweep.tableau))
    bar = reverse_sweep!(bars, path.sweep, path.times, path.states, path.ends; taped)
    unload_gradient!(slope, network(path))
    return bar
end

pull!(bar::AbstractVector, slope, path::Path) = pull!(reshape(bar, :, 1), slope, path)

"""
    vjp!(slope, bar, path, flat, y0)

Gradients of `sum(bar .* y(t1))`: to the weights into `slope`, to `y0` over `bar`; arrays of the
host. Returns the return code of the solve; only after `"Success"` are there gradients.
"""
function vjp!(slope, bar, path::AbstractPath, flat, y0)
    load!(path, flat)
    _, _, code = follow!(path, on_device(network(path), y0))
    code == "Success" || return code
    copyto!(bar, pull!(on_device(network(path), bar), slope, path))
    return code
end

"""Jacobian of the map y0 -> y1 for each sample into `rows`, (column, row, sample)."""
function path_jacobian!(rows::AbstractArray{T, 3}, path::AbstractPath{T}, flat, y0) where {T}
    load!(path, flat)
    _, _, code = follow!(path, y0)
    code == "Success" || return code
    size, bar, slope = Base.size(rows, 1), similar(y0), similar(flat)
    for row in 1:size
        fill!(bar, 0)
        bar[row:size:end] .= 1
        pull!(bar, slope, path)
        rows[:, row, :] .= reshape(bar, size, :)
    end
    return code
end
