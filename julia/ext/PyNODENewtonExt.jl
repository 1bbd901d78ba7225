# Newton's method for the stages of fixed steps, in the interface of OrdinaryDiffEq's nonlinear solvers.

module PyNODENewtonExt

using LinearSolve: LinearSolve
using OrdinaryDiffEqCore: AbstractNLSolverAlgorithm, COEFFICIENT_MULTISTEP, Convergence, Divergence,
                          OrdinaryDiffEqAlgorithm, increment_nf!, nlsolve_f
using OrdinaryDiffEqNonlinearSolve: OrdinaryDiffEqNonlinearSolve, NLNewton, NLSolver
using PyNODE: PyNODE, NEWTON_ITERATIONS
using SciMLBase: SciMLBase, DEIntegrator

"""
Newton's method to rounding, the Jacobian taken again where it does not contract: the discrete model
of a fixed step is its solved stage. NLNewton keeps the Jacobian of the step's start, which at large
steps does not contract, and ends in ConvergenceFailure, or without a check in states of no meaning.
"""
struct StageNewton <: AbstractNLSolverAlgorithm end

# A choice of the user's own stays.
function PyNODE.for_fixed_steps(algorithm::OrdinaryDiffEqAlgorithm, f)
    SciMLBase.has_jac(f) || return algorithm
    if has(algorithm, :nlsolve)
        algorithm.nlsolve === NLNewton() || return algorithm
        linsolve = has(algorithm, :linsolve) ? algorithm.linsolve : nothing
        isnothing(linsolve) || LinearSolve.needs_concrete_A(linsolve) || return algorithm
        return SciMLBase.remake(algorithm; nlsolve = StageNewton())
    elseif has(algorithm, :maxiters) && has(algorithm, :κ)
        # Fully implicit methods have iterations of their own, of which they are given enough.
        algorithm.maxiters == 10 && isnothing(algorithm.κ) || return algorithm
        return SciMLBase.remake(algorithm; maxiters = NEWTON_ITERATIONS, κ = 1)
    end
    return algorithm
end

has(algorithm, name::Symbol) = hasfield(typeof(algorithm), name)

function OrdinaryDiffEqNonlinearSolve.build_nlsolver(algorithm, ::StageNewton,
        arguments::Vararg{Any, 15})
    made = OrdinaryDiffEqNonlinearSolve.build_nlsolver(algorithm, NLNewton(), arguments...)
    return with_method(made, StageNewton())
end

function with_method(made::NLSolver{A, iip, U, G, W, T, C, E}, method::M) where {
        A, iip, U, G, W, T, C, E, M}
    values = ntuple(i -> (name = fieldname(NLSolver, i); name === :alg ? method :
        getfield(made, name)), Val(fieldcount(NLSolver)))
    return NLSolver{M, iip, U, G, W, T, C, E}(values...)
end

function OrdinaryDiffEqNonlinearSolve.nlsolve!(solver::NLSolver{StageNewton, true},
        integrator::DEIntegrator, cache = nothing, repeat_step = false)
    newton, stats, dt = solver.cache, integrator.stats, integrator.dt
    multistep = solver.method === COEFFICIENT_MULTISTEP
    newton.tstep = integrator.t + solver.c * dt
    shift = solver.γ * dt / (multistep ? solver.α : one(solver.α))
    # Of the state for a change of z, which counts slopes times steps in a Runge-Kutta stage.
    scale = multistep ? one(solver.γ) : solver.γ
    rounding = eps(real(eltype(solver.z)))
    stale, last = true, typemax(rounding)
    solver.status = Divergence
    for iteration in 1:NEWTON_ITERATIONS
        solver.iter = iteration
        residual!(solver, integrator, multistep)
        stale && factor!(newton, integrator, shift)
        solved = SciMLBase.solve!(newton.linsolve)
        stats.nsolve += 1
        SciMLBase.successful_retcode(solved.retcode) || break
        change, size = update!(solver.z, newton.dz, newton.ustep, scale)
        isfinite(change) || break
        # At rounding, or near it and no nearer: the stage is solved.
        if change <= 4 * rounding * size || (change >= last && last <= sqrt(rounding) * size)
            solver.status = Convergence
            break
        end
        stale = change > last / 10
        last = change
    end
    newton.new_W, newton.W_γdt, newton.J_t = true, shift, integrator.t
    solver.nfails = solver.status === Convergence ? 0 : solver.nfails + 1
    return SciMLBase.postamble!(solver, integrator)
end

"""
The stage's residual at `z`, whose derivative is `J - I / shift`, as the linear system's right side;
`ustep` becomes the state that it was taken at.
"""
function residual!(solver, integrator, multistep)
    (; z, tmp, ztmp, γ, α, cache) = solver
    (; ustep, k, dz, linsolve) = cache
    inverse = inv(γ * integrator.dt)
    multistep ? copyto!(ustep, z) : (@. ustep = tmp + γ * z)
    nlsolve_f(integrator)(k, ustep, integrator.p, cache.tstep)
    increment_nf!(integrator.stats, 1)
    if multistep
        @. ztmp = tmp + k - (α * inverse) * z
    else
        @. ztmp = (integrator.dt * k - z) * inverse
    end
    linsolve.b, linsolve.u = ztmp, dz
    return nothing
end

function factor!(newton, integrator, shift)
    (; J, W, ustep, tstep, linsolve) = newton
    nlsolve_f(integrator).jac(J, ustep, integrator.p, tstep)
    copyto!(W, J)
    for i in axes(W, 1)
        W[i, i] -= inv(shift)
    end
    linsolve.A = W
    integrator.stats.njacs += 1
    integrator.stats.nw += 1
    return nothing
end

"""`z -= dz`; how far that moves the state, and how large the state is."""
function update!(z, dz, state, scale)
    change = zero(real(eltype(z)))
    size = one(change)
    for i in eachindex(z, dz, state)
        # A NaN must not be lost: `max` keeps it.
        change = max(change, abs(scale * dz[i]))
        size = max(size, abs(state[i]))
        z[i] -= dz[i]
    end
    return change, size
end

end
