# One solve: arrays in, arrays and counts out.

# What goes wrong is in the return code, which Python turns into an exception: no warnings.
const SILENT = SciMLLogging.None()

"""
What a solve gives back. `y` is (size * batch, times). A failed solve ends with the time and the
state that it had reached.
"""
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
    Steps(stops, ends, dt, rtol, atol, max_steps, save_steps, origin = 0.0)

How a solve steps. `stops` are the times to return, `ends` the ends of all fixed steps, or of one
more than `max_steps` (none: the steps adapt to `rtol` and `atol`), `dt` the length of the longest of
them, signed. Times are counted from `origin`, since far from zero their rounding is a part of a
step; a result's are too.
"""
struct Steps
    stops::Vector{Float64}
    ends::Vector{Float64}
    dt::Float64
    rtol::Float64
    atol::Float64
    max_steps::Int
    save_steps::Bool
    origin::Float64
    # The arrays are the caller's: copied, since these outlive its call.
    function Steps(stops, ends, dt, rtol, atol, max_steps, save_steps, origin = 0.0)
        return new(copy(stops), copy(ends), dt, rtol, atol, max_steps, save_steps, origin)
    end
end

fixed(steps::Steps) = !isempty(steps.ends)

"""The time at which a solve ends, that it has steps for."""
final(steps::Steps) = last(fixed(steps) ? steps.ends : steps.stops)

"""
    solve(f, algorithm, y0, p, t0, steps)

Integrate `f`, an `ODEFunction`, from the flat batch `y0` at `t0` to the last of `steps.stops`.
"""
function solve(f, algorithm, y0::AbstractVector{T}, p, t0::Real, steps::Steps) where {T}
    # A sub-library may have been loaded just now.
    fixed(steps) && (algorithm = Base.invokelatest(for_fixed_steps, algorithm, f))
    return Base.invokelatest(solve_now, f, algorithm, y0, p, t0, steps)::Result{T}
end

function solve_now(f, algorithm, y0::AbstractVector{T}, p, t0, steps) where {T}
    problem = ODEProblem(f, y0, (T(t0), T(final(steps))), p)
    integrator = SciMLBase.init(problem, algorithm; keywords(T, steps)...)
    # The first step of an adaptive solve, which a keyword would have to be of another type to ask for.
    fixed(steps) || !iszero(integrator.dt) || SciMLBase.auto_dt_reset!(integrator)
    return result(SciMLBase.solve!(integrator), steps, y0)
end

function keywords(::Type{T}, steps::Steps) where {T}
    several = length(steps.stops) > 1 && !steps.save_steps
    saving = (; dense = false, calck = false, save_everystep = steps.save_steps,
        save_start = steps.save_steps, save_end = true, verbose = SILENT,
        maxiters = steps.max_steps, saveat = several ? T.(steps.stops) : T[])
    # Every fixed step's end is a stop: no running sum of dt, whose rounding would grow. Implicit
    # stages are solved to rounding: the discrete model is the solved stage.
    tight = 16 * eps(T)
    rtol, atol = fixed(steps) ? (tight, tight) : (T(steps.rtol), T(steps.atol))
    # The same keywords for both, so that a solver is compiled once.
    return (; saving..., adaptive = !fixed(steps), dt = T(steps.dt),
        tstops = T.(fixed(steps) ? steps.ends : steps.stops), reltol = rtol, abstol = atol)
end

function result(solution, steps::Steps, y0::AbstractVector{T}) where {T}
    reached = steps.save_steps ? length(solution.u) : min(length(solution.u), length(steps.stops))
    y = Matrix{T}(undef, length(y0), max(reached, 1))
    copyto!(view(y, :, 1), Array(y0))  # all there is of a solve that did not begin
    for i in 1:reached
        copyto!(view(y, :, i), Array(solution.u[i]))
    end
    t = reached == 0 ? T[first(solution.prob.tspan)] : T.(solution.t[1:reached])
    s = solution.stats
    code = return_code(string(solution.retcode), y)
    # The stops as they were asked for.
    code == "Success" && !steps.save_steps && copyto!(t, steps.stops)
    return Result{T}(t, y, s.nf, s.njacs, s.naccept, s.nreject, code)
end

"""Julia's return code; a state that is not finite is "Unstable", whatever the solver saw."""
function return_code(code::AbstractString, y)
    code in ("Success", "Terminated", "Default") || return String(code)
    return all(isfinite, y) ? "Success" : "Unstable"
end

"""
    solve_field(field, implicit, algorithm, weights, y0, t0, steps)

Integrate a `RightHandSide` with flat weights, a `JuliaFunction` with weights by name, or a
`CallBack`, which knows its own; see `solve`.
"""
function solve_field(field, implicit::Bool, algorithm, weights, y0, t0::Real, steps::Steps)
    given, initial = with_weights(field, weights), on_device(field, y0)
    whole = solver_name(algorithm) in WHOLE
    f = ode_function(given, implicit, initial; whole, origin = steps.origin)
    return solve(f, algorithm, initial, SciMLBase.NullParameters(), t0, steps)
end

with_weights(rhs::RightHandSide, flat::AbstractVector) = load!(rhs, flat)
with_weights(field::CallBack, ::Nothing) = field
with_weights(field::JuliaFunction, p::NamedTuple) = Weighted(field, p)

"""
    Prepared(field, implicit, algorithm, t0, steps)

A solve but for its numbers, which `run!` takes.
"""
struct Prepared
    field::Any
    implicit::Bool
    algorithm::Any
    t0::Float64
    steps::Steps
end

"""
    run!(y, prepared, y0, n, element, weights...)

Solve from the `n` numbers at the address `y0` and write the states to the address `y`. `weights`
are the address and the length of flat ones, or what `solve_field` takes. Returns the return code,
the counts, how many states there are and the time of the last, and the seconds of compilation.
Addresses and one call, since whatever crosses between the languages takes microseconds.
"""
function run!(y::Integer, prepared::Prepared, y0::Integer, n::Integer, element::AbstractString,
        weights...)
    found, compiling = run(prepared, y0, n, element, weights...)
    copyto!(ArrayAt(y, element, n, length(found.t)), found.y)
    return found.retcode, found.nf, found.njac, found.naccept, found.nreject, length(found.t),
    Float64(last(found.t)), compiling
end

"""
    derivative!(dy, field, t, y, n, element, weights...)

Write f(t, y) to the address `dy`; the other arguments are as for `run!`.
"""
function derivative!(dy::Integer, field, t::Real, y::Integer, n::Integer, element::AbstractString,
        weights...)
    f = with_weights(field, given_weights(element, weights...))
    states = on_device(field, ArrayAt(y, element, n))
    out = similar(states)
    Base.invokelatest(f, out, states, SciMLBase.NullParameters(), eltype(states)(t))
    copyto!(ArrayAt(dy, element, n), Array(out))
    return nothing
end

given_weights(element, address, length) = ArrayAt(address, element, length)
given_weights(element, known) = known

"""As `run!`, but for the states: the `Result` itself, and the seconds of compilation."""
function run(prepared::Prepared, y0::Integer, n::Integer, element::AbstractString, weights...)
    (; field, implicit, algorithm, t0, steps) = prepared
    given, initial = given_weights(element, weights...), ArrayAt(y0, element, n)
    return measured(solve_field, field, implicit, algorithm, given, initial, t0, steps)
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
