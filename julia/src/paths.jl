# A path is a solve that can be differentiated. Training and gradients see no more of it than
# `load!(path, flat)`, `follow!(path, y0)` and `pull!(bar, slope, path)`.

abstract type AbstractPath{T} end

"""
    Path(rhs, algorithm, tableau, steps, t0)

The discrete gradient: fixed steps run here, adaptive ones in OrdinaryDiffEq, whose accepted steps
are then differentiated at its own states, their lengths held constant.
"""
mutable struct Path{T, R, A, S, M <: AbstractMatrix{T}} <: AbstractPath{T}
    const rhs::R
    const algorithm::A
    const steps::Steps
    const t0::Float64
    const sweep::S
    times::Vector{Float64}
    states::M
end

function Path(rhs::RightHandSide, algorithm, tableau::Tableau, steps::Steps, t0)
    n = length(steps.ends)
    network = rhs.network
    states = allocate(network, state_size(network.field) * network.batch, fixed(steps) ? n + 1 : 0)
    times = Float64[t0; steps.ends]
    return Path(rhs, algorithm, steps, Float64(t0), Sweep(network, tableau, n), times, states)
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
        found = solve(ode_function(path.rhs, hard, y0), path.algorithm, y0, SciMLBase.NullParameters(),
            path.t0, path.steps)
        path.times, path.states = Float64.(found.t), on_device(network(path), found.y)
        nf, code = found.nf, found.retcode
    end
    return view(path.states, :, size(path.states, 2)), nf, code
end

"""
    pull!(bar, slope, path)

Gradients of `sum(bar .* y(t1))` after `follow!`: to the flat weights into `slope`, to `y0` over
`bar`.
"""
function pull!(bar, slope, path::Path)
    taped = fixed(path.steps) && path.sweep.kept
    reverse_sweep!(bar, path.sweep, path.times, path.states; taped)
    unload_gradient!(slope, network(path))
    return bar
end

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
