# One solve: arrays in, arrays and counts out.

# What goes wrong is in the return code, which Python turns into an exception: no warnings.
const SILENT = SciMLLogging.None()

"""What a solve gives back. `y` is (size * batch, times)."""
struct Result{T}
    t::Vector{T}
    y::Matrix{T}
    nf::Int
    njac::Int
    naccept::Int
    nreject::Int
    retcode::String
end

"""
    Steps(stops, ends, dt, rtol, atol, max_steps, save_steps)

How a solve steps. `stops` are the times to return, `ends` the ends of all fixed steps (none: the
steps adapt to `rtol` and `atol`), `dt` the length of the longest of them, signed.
"""
struct Steps
    stops::Vector{Float64}
    ends::Vector{Float64}
    dt::Float64
    rtol::Float64
    atol::Float64
    max_steps::Int
    save_steps::Bool
    # The arrays are the caller's: copied, since these outlive its call.
    function Steps(stops, ends, dt, rtol, atol, max_steps, save_steps)
        return new(copy(stops), copy(ends), dt, rtol, atol, max_steps, save_steps)
    end
end

fixed(steps::Steps) = !isempty(steps.ends)

"""
    solve(f, algorithm, y0, p, t0, steps)

Integrate `f`, an `ODEFunction`, from the flat batch `y0` at `t0` to the last of `steps.stops`.
"""
function solve(f, algorithm, y0::AbstractVector{T}, p, t0::Real, steps::Steps) where {T}
    # A sub-library may have been loaded just now.
    return Base.invokelatest(solve_now, f, algorithm, y0, p, t0, steps)::Result{T}
end

function solve_now(f, algorithm, y0::AbstractVector{T}, p, t0, steps) where {T}
    fixed(steps) && (algorithm = for_fixed_steps(algorithm, f))
    problem = ODEProblem(f, y0, (T(t0), T(last(steps.stops))), p)
    solution = SciMLBase.solve(problem, algorithm; keywords(T, steps)...)
    return result(solution, steps, y0)
end

function keywords(::Type{T}, steps::Steps) where {T}
    several = length(steps.stops) > 1 && !steps.save_steps
    saving = (; dense = false, calck = false, save_everystep = steps.save_steps,
        save_start = steps.save_steps, save_end = true, verbose = SILENT,
        maxiters = steps.max_steps, saveat = several ? T.(steps.stops) : T[])
    if fixed(steps)
        # Every step's end is a stop: no running sum of dt, whose rounding would grow. Implicit
        # stages are solved to rounding: the discrete model is the solved stage.
        tight = 16 * eps(T)
        return (; saving..., adaptive = false, dt = T(steps.dt), tstops = T.(steps.ends),
            reltol = tight, abstol = tight)
    end
    return (; saving..., tstops = T.(steps.stops), reltol = T(steps.rtol), abstol = T(steps.atol))
end

function result(solution, steps::Steps, y0::AbstractVector{T}) where {T}
    count = steps.save_steps ? max(length(solution.u), 1) : length(steps.stops)
    y = Matrix{T}(undef, length(y0), count)
    for i in 1:count
        # A failed solve has fewer states: its last one stands for the rest.
        copyto!(view(y, :, i), Array(isempty(solution.u) ? y0 : solution.u[min(i, end)]))
    end
    t = steps.save_steps ? T.(solution.t) : T.(steps.stops)
    s = solution.stats
    code = return_code(string(solution.retcode), y)
    return Result{T}(t, y, s.nf, s.njacs, s.naccept, s.nreject, code)
end

"""Julia's return code; a state that is not finite is "Unstable", whatever the solver saw."""
function return_code(code::AbstractString, y)
    code in ("Success", "Terminated", "Default") || return String(code)
    return all(isfinite, y) ? "Success" : "Unstable"
end

"""Integrate a `VectorField` with weights `flat`; see `solve`."""
function solve_field(rhs::RightHandSide, implicit::Bool, algorithm, flat::AbstractVector,
        y0::AbstractVector, t0::Real, steps::Steps)
    load!(rhs, flat)
    initial = on_device(rhs.network, y0)
    return solve(ode_function(rhs, implicit), algorithm, initial, SciMLBase.NullParameters(), t0,
        steps)
end

"""Integrate a `CallBack`, which knows its weights; see `solve`."""
function solve_field(field::CallBack, implicit::Bool, algorithm, ::Nothing, y0::AbstractVector,
        t0::Real, steps::Steps)
    return solve(ode_function(field, implicit, y0), algorithm, y0, SciMLBase.NullParameters(), t0,
        steps)
end

"""Integrate a `JuliaFunction` with weights `p`, a named tuple; see `solve`."""
function solve_field(field::JuliaFunction, implicit::Bool, algorithm, p::NamedTuple,
        y0::AbstractVector, t0::Real, steps::Steps)
    return solve(ode_function(Weighted(field, p), implicit, y0), algorithm, y0,
        SciMLBase.NullParameters(), t0, steps)
end

"""
    measured(f, arguments...)

`f(arguments...)` and the seconds that were compilation. It is not compiled for its arguments itself:
what they need is compiled inside.
"""
function measured(@nospecialize(f), @nospecialize(arguments...))
    Base.cumulative_compile_timing(true)
    begun = first(Base.cumulative_compile_time_ns())
    try
        value = Base.invokelatest(f, arguments...)
        return value, (first(Base.cumulative_compile_time_ns()) - begun) / 1e9
    finally
        Base.cumulative_compile_timing(false)
    end
end
