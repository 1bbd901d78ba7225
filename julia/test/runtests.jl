using ComponentArrays, Lux, Zygote # the extension PyNODELuxExt
using ForwardDiff: ForwardDiff # and PyNODEForwardDiffExt
using GPUArraysCore: allowscalar
using JLArrays: JLArray
using LinearAlgebra: I, opnorm
using PyNODE
using PyNODE: Activation, BlockDiagonal, BlockFactors, Conv, Dense, Network, RightHandSide, Steps,
              Tableau, VectorField
using SciMLBase: ODEProblem, init, step!
using Test

const FIELDS = [
    "dense, with time" => VectorField((3,), true, Dense(4, 5), Activation("gelu"), Dense(5, 3)),
    "line, one matrix" => VectorField((2,), false, Conv(1, 3, 1, 1), Activation("tanh"),
        Conv(3, 2, 3, 1), Activation("silu"), Conv(2, 1, 1, 1)),
    "line, windows" => VectorField((5,), true, Conv(2, 3, 3, 1), Activation("softplus"),
        Conv(3, 1, 1, 1)),
    "image" => VectorField((2, 4, 3), true, Conv(3, 4, 1, 2), Activation("elu"),
        Conv(4, 4, 3, 2), Activation("sigmoid"), Conv(4, 2, 1, 2)),
    "through one number" => VectorField((3,), true, Dense(4, 5), Activation("relu"),
        Activation("tanh"), Dense(5, 1), Activation("softplus"), Dense(1, 3))
]
weights_of(field) = 0.3 .* sin.(1:PyNODE.weights_length(field))
states_of(field, batch) = cos.(1:(PyNODE.state_size(field) * batch))

@testset "pullback against finite differences: $name" for (name, field) in FIELDS
    batch, h, t = 4, 1e-6, 0.7
    flat, y = weights_of(field), states_of(field, batch)
    bar = sin.(2 .* (1:length(y)))
    network = Network{Float64}(field, batch)
    value(flat, y) = sum(bar .* PyNODE.forward!(similar(y), PyNODE.load!(network, flat), t, y))
    value(flat, y)
    y_bar, flat_bar = copy(bar), similar(flat)
    PyNODE.pullback!(y_bar, network, network.tape)
    PyNODE.unload_gradient!(flat_bar, network)
    slope(f, x, i) = (d = zero(x); d[i] = h; (f(x .+ d) - f(x .- d)) / 2h)
    @test y_bar ≈ [slope(y -> value(flat, y), y, i) for i in eachindex(y)] rtol = 1e-6
    @test flat_bar ≈ [slope(w -> value(w, y), flat, i) for i in eachindex(flat)] rtol = 1e-6
end

"""What a call allocates once it is compiled."""
function allocated(f, arguments...)
    f(arguments...)
    return @allocated f(arguments...)
end

take_steps!(integrator, n) = foreach(_ -> step!(integrator), 1:n)

@testset "what allocates nothing, in $T: $name" for T in (Float32, Float64), (name, field) in FIELDS
    rhs = PyNODE.load!(RightHandSide(field, 3, T), weights_of(field))
    y, t = T.(states_of(field, 3)), T(0.3)
    dy = similar(y)
    @test allocated(rhs, dy, y, nothing, t) == 0
    @test allocated(PyNODE.pullback!, dy, rhs.network, rhs.network.tape) == 0
    # As solvers see it: but for the box of the time.
    f = PyNODE.ode_function(rhs, false, y)
    @test allocated(f, dy, y, nothing, t) <= 16
    steps = Steps([1.0], collect(1:200) ./ 200, 1 / 200, 0.0, 0.0, 200, false)
    integrator = init(ODEProblem(f, y, (zero(T), one(T))), PyNODE.Tsit5();
        PyNODE.keywords(T, steps)...)
    evaluations = 6 * 50
    @test allocated(take_steps!, integrator, 50) <= 16 * evaluations
end

@testset "block-diagonal matrices in $T, blocks of $n" for T in
                                                          (Float32, Float64, ComplexF64),
        n in (1, 2, 5)

    A = BlockDiagonal(T.(sin.(reshape((1:(3n^2)) .^ 2, n, n, 3)) .+ 0.1))
    dense, x = Matrix(A), T.(cos.(1:(3n)))
    factors = BlockFactors(A)
    @test PyNODE.factor!(factors, A)
    @test PyNODE.divide!(copy(x), factors) ≈ dense \ x
    @test PyNODE.divide_transposed!(copy(x), factors) ≈ transpose(dense) \ x
    @test A * x ≈ dense * x
    @test opnorm(A, Inf) ≈ opnorm(dense, Inf)
    @test copyto!(similar(A), A) == A == copy(A)
    @test A[1, 3n] == 0
    A[1, 1] = 7
    A[1, 3n] = 0
    @test A.blocks[1, 1, 1] == 7
    @test_throws ArgumentError A[1, 3n] = 1
    @test !PyNODE.factor!(factors, zero(A))
    @test !PyNODE.factor!(factors, fill!(similar(A), NaN))
    @test allocated(PyNODE.factor!, factors, A) == 0
    @test allocated(PyNODE.divide!, x, factors) == 0
end

@testset "Jacobian and time derivative of $name" for (name, field) in FIELDS
    rhs = PyNODE.load!(RightHandSide(field, 3, Float64), weights_of(field))
    y, h, t = states_of(field, 3), 1e-6, 0.2
    f = PyNODE.ode_function(rhs, true, y)
    J = similar(f.jac_prototype)
    f.jac(J, y, nothing, t)
    value(y, t) = (dy = similar(y); rhs(dy, y, nothing, t); dy)
    columns = [(d = zero(y); d[i] = h; (value(y .+ d, t) .- value(y .- d, t)) ./ 2h)
               for i in eachindex(y)]
    @test Matrix(J) ≈ reduce(hcat, columns) atol = 1e-8
    dT = similar(y)
    f.tgrad(dT, y, nothing, t)
    @test dT ≈ (value(y, t + h) .- value(y, t - h)) ./ 2h atol = 1e-8
    # Nothing but boxes of the time and the matrix.
    @test allocated(f.jac, J, y, nothing, t) <= 32
    @test allocated(f.tgrad, dT, y, nothing, t) <= 16
end

@testset "Jacobians of a function, by dual numbers and by differences" begin
    f!(dy, y, p, t) = (dy .= p.a .* y .^ 2 .+ t .* circshift(y, 1))
    field = PyNODE.Weighted(PyNODE.julia_function(f!, (11,)), (; a = 0.7))
    y, exact = cos.(1:33), zeros(11, 11, 3)
    for sample in 1:3, i in 1:11
        exact[i, i, sample] = 1.4 * y[(sample - 1) * 11 + i]
        exact[i, mod1(i - 1, 11), sample] += 0.3
    end
    by_duals = PyNODE.ode_function(field, true, y)
    J = similar(by_duals.jac_prototype)
    by_duals.jac(J, y, nothing, 0.3)
    @test J.blocks ≈ exact rtol = 1e-14
    for (T, bound) in ((Float64, 1e-9), (Float32, 1e-3))
        states = T.(y)
        by_differences = PyNODE.Differences(field, 11, (similar(states) for _ in 1:3)...)
        J = PyNODE.BlockDiagonal{T}(11, 3)
        by_differences(J, states, nothing, T(0.3))
        @test J.blocks ≈ exact rtol = bound
        dT = similar(states)
        PyNODE.TimeDifference(by_differences)(dT, states, nothing, T(0.3))
        @test reshape(dT, 11, 3) ≈ circshift(reshape(y, 11, 3), 1) rtol = bound
    end
end

"""A solve by name over [0, 1]: `dt` for fixed steps, else a tolerance."""
function by_name(name, library, field, T; dt = nothing, tolerance = 1e-6)
    rhs, flat = RightHandSide(field, 3, T), T.(weights_of(field))
    ends = isnothing(dt) ? Float64[] : collect(dt:dt:1.0)
    steps = Steps([1.0], ends, something(dt, 0.0), tolerance, tolerance, 10_000, false)
    return PyNODE.solve_field(rhs, true, PyNODE.algorithm(name, library), flat,
        T.(states_of(field, 3)), 0.0, steps)
end

@testset "implicit solvers in $T: $name" for T in (Float32, Float64),
        (name, library) in ("TRBDF2" => "OrdinaryDiffEqSDIRK", "FBDF" => "OrdinaryDiffEqBDF",
            "Rosenbrock23" => "OrdinaryDiffEqRosenbrock")

    field = last(FIELDS[1])
    exact = by_name("KenCarp4", "OrdinaryDiffEqSDIRK", field, Float64; tolerance = 1e-9).y
    found = by_name(name, library, field, T; tolerance = 1e-5)
    @test found.retcode == "Success"
    @test eltype(found.y) == T
    @test found.y ≈ exact rtol = 2e-3
    fixed = by_name(name, library, field, T; dt = 1 / 64)
    @test fixed.retcode == "Success"
    @test fixed.y ≈ exact rtol = 2e-3
end

@testset "phi functions block by block in $T" for T in (Float32, Float64)
    utilities = PyNODE.sublibrary("OrdinaryDiffEqExponentialRK").ExponentialUtilities
    A = BlockDiagonal(T.(sin.(reshape((1:12) .^ 2, 2, 2, 3)) .- 0.5))
    B, t = T.(cos.(reshape(1:24, 6, 4))), T(0.8)
    dense = Float64.(Matrix(A))
    # φ_0 = exp and z φ_j(z) = φ_{j-1}(z) - 1/(j-1)!.
    phi(j, z) = j == 0 ? exp(z) : z \ (phi(j - 1, z) - I / factorial(j - 1))
    sums = [sum(s^j .* (phi(j, s .* dense) * B[:, j + 1]) for j in 0:3) for s in (t, -t / 2)]
    found = utilities.phiv_timestep!(similar(B, 6, 2), [t, -t / 2], A, B)
    @test found ≈ reduce(hcat, sums) rtol = 100eps(T)
    @test utilities.phiv_timestep!(similar(B, 6), t, A, B) == found[:, 1]
end

@testset "exponential solvers in $T: $name" for T in (Float32, Float64),
        name in ("Exprb43", "Exp4")

    field = last(FIELDS[2])
    exact = by_name("KenCarp4", "OrdinaryDiffEqSDIRK", field, Float64; tolerance = 1e-9).y
    found = by_name(name, "OrdinaryDiffEqExponentialRK", field, T; dt = 1 / 16)
    @test found.retcode == "Success"
    @test eltype(found.y) == T
    @test found.y ≈ exact rtol = 1e-5
end

@testset "options as text" begin
    @test PyNODE.call_parts(:nlsolve, Meta.parse("NLNewton(max_iter = 50, a = -1//2, b = :c)")) ==
          (:NLNewton, [:max_iter => 50, :a => -1//2, :b => :c])
    for text in ("f(1)", "f(a = g())", "a.b", "f(a = b)", "1")
        @test_throws ArgumentError PyNODE.call_parts(:nlsolve, Meta.parse(text))
    end
    @test PyNODE.option(:extrapolant, "linear") === :linear
    @test PyNODE.option(:max_order, 3) === 3
end

@testset "a solve ends at its stops, in equal steps" begin
    field = last(FIELDS[1])
    rhs = RightHandSide(field, 2, Float64)
    steps = Steps([0.5, 1.0], [0.25, 0.5, 0.75, 1.0], 0.25, 0.0, 0.0, 100, false)
    found = PyNODE.solve_field(rhs, false, PyNODE.Euler(), weights_of(field), states_of(field, 2),
        0.0, steps)
    @test found.retcode == "Success"
    @test found.naccept == 4
    @test found.t == [0.5, 1.0]
end

# Tableau takes `a` as Python's rows: Julia's columns.
const RK4 = Tableau([0 0.5 0 0; 0 0 0.5 0; 0 0 0 1; 0 0 0 0], [1, 2, 2, 1] ./ 6, [0, 0.5, 0.5, 1])
const GAMMA = 1 - sqrt(2) / 2
const SDIRK2 = Tableau([GAMMA 1-GAMMA; 0 GAMMA], [1 - GAMMA, GAMMA], [GAMMA, 1])

"""`sum(bar .* y(t1))`, its gradients and the final state along a path."""
function along(rhs, tableau, flat, y0, bar)
    steps = Steps([1.0], [0.25, 0.5, 0.75, 1.0], 0.25, 0.0, 0.0, 100, false)
    path = PyNODE.Path(rhs, PyNODE.Euler(), tableau, steps, 0.0)
    slope, y_bar = similar(flat), copy(bar)
    code = PyNODE.vjp!(slope, y_bar, path, flat, y0)
    y1 = Array(path.states[:, end])
    return (; value = sum(bar .* y1), slope, y_bar, y1, code)
end

@testset "discrete gradient against finite differences: $name" for (name, tableau) in
                                                                   ("RK4" => RK4, "SDIRK2" => SDIRK2)
    field, h = last(FIELDS[1]), 1e-6
    rhs = RightHandSide(field, 3, Float64)
    flat, y0 = weights_of(field), states_of(field, 3)
    bar = sin.(2 .* (1:length(y0)))
    found = along(rhs, tableau, flat, y0, bar)
    @test found.code == "Success"
    slope(f, x, i) = (d = zero(x); d[i] = h; (f(x .+ d) - f(x .- d)) / 2h)
    value(flat, y0) = along(rhs, tableau, flat, y0, bar).value
    @test found.y_bar ≈ [slope(y -> value(flat, y), y0, i) for i in eachindex(y0)] rtol = 1e-6
    some = 1:3:length(flat)
    @test found.slope[some] ≈ [slope(w -> value(w, y0), flat, i) for i in some] rtol = 1e-6
end

@testset "an adaptive solve is differentiated where it went" begin
    bs3 = Tableau([0 0.5 0; 0 0 0.75; 0 0 0], [2 / 9, 1 / 3, 4 / 9], [0, 0.5, 0.75])
    field = last(FIELDS[1])
    rhs = RightHandSide(field, 3, Float64)
    flat, y0 = 2 .* weights_of(field), states_of(field, 3)
    bar = sin.(2 .* (1:length(y0)))
    function gradients(algorithm, steps)
        path = PyNODE.Path(rhs, algorithm, bs3, steps, 0.0)
        slope, y_bar = similar(flat), copy(bar)
        @test PyNODE.vjp!(slope, y_bar, path, flat, y0) == "Success"
        return path, slope, y_bar
    end
    adaptive = Steps([1.0], Float64[], 0.0, 1e-6, 1e-6, 1000, true)
    path, slope, y_bar = gradients(PyNODE.algorithm("BS3", "OrdinaryDiffEqLowOrderRK"), adaptive)
    # Every stage was among the solver's own evaluations: none is made again.
    @test isempty(path.record.spare)
    @test path.record.count >= 3 * (length(path.times) - 1)
    # The same steps, given beforehand.
    given = Steps([1.0], path.times[2:end], 0.1, 0.0, 0.0, 1000, false)
    _, slope_given, y_bar_given = gradients(PyNODE.Euler(), given)
    @test slope ≈ slope_given rtol = 1e-10
    @test y_bar ≈ y_bar_given rtol = 1e-10
end

@testset "a kept solve against finite differences: $name" for (name, tableau) in
                                                              ("RK4" => RK4, "SDIRK2" => SDIRK2)
    field, h, times = last(FIELDS[1]), 1e-6, [0.1, 0.5, 1.1]
    rhs = RightHandSide(field, 3, Float64)
    sweep = PyNODE.Sweep(rhs.network, tableau, 0)
    flat, y0 = weights_of(field), states_of(field, 3)
    bars = sin.(2 .* reshape(1:(2 * length(y0)), :, 2))
    lengths = [0.25, 0.15, 0.25, 0.25, 0.1]
    function value(flat, y0, times)
        # Lengths stay, but for the last before each time.
        l = copy(lengths)
        l[2] = times[2] - times[1] - l[1]
        l[5] = times[3] - times[2] - l[3] - l[4]
        PyNODE.load!(rhs, flat)
        y, t, total = copy(y0), times[1], 0.0
        for (i, each) in enumerate(l)
            next = similar(y)
            PyNODE.step!(next, sweep, i, t, each, y)
            y, t = next, t + each
            i == 2 && (total += sum(bars[:, 1] .* y))
        end
        return total + sum(bars[:, 2] .* y)
    end
    ends = times[1] .+ cumsum(lengths)
    states = [copy(y0)]
    PyNODE.load!(rhs, flat)
    for (i, each) in enumerate(lengths)
        push!(states, similar(y0))
        PyNODE.step!(states[end], sweep, i, [times[1]; ends][i], each, states[end - 1])
    end
    kept = PyNODE.Kept(rhs, sweep, copy(flat), [times[1]; ends], reduce(hcat, states), [3, 6],
        0.0)
    slope, y_bar, t_bar = similar(flat), similar(y0), zeros(3)
    PyNODE.pull_back!(slope, y_bar, t_bar, kept, bars)
    difference(f, x, i) = (d = zero(x); d[i] = h; (f(x .+ d) - f(x .- d)) / 2h)
    @test y_bar ≈ [difference(y -> value(flat, y, times), y0, i) for i in eachindex(y0)] rtol = 1e-6
    @test t_bar ≈ [difference(t -> value(flat, y0, t), times, i) for i in 1:3] rtol = 1e-6
    some = 1:3:length(flat)
    @test slope[some] ≈ [difference(w -> value(w, y0, times), flat, i) for i in some] rtol = 1e-6
end

const FLOWS = ["$name, $(noisy ? "noise" : "exact")" => PyNODE.LogDensityField(field, noisy)
               for (name, field) in FIELDS for noisy in (false, true)]

@testset "a divergence and its pullback against finite differences: $name" for (name, flow) in FLOWS
    batch, h, t, d = 3, 1e-5, 0.7, PyNODE.state_size(flow.inner)
    rows = PyNODE.state_size(flow)
    flat, y = weights_of(flow), states_of(flow, batch)
    rhs = PyNODE.load!(RightHandSide(flow, batch, Float64), flat)
    inner = PyNODE.load!(RightHandSide(flow.inner, batch, Float64), flat)
    state(y) = vec(reshape(y, rows, batch)[1:d, :])
    slope(y) = (dy = similar(y); inner(dy, y, nothing, t); reshape(dy, d, batch))
    dy = similar(y)
    rhs(dy, y, nothing, t)
    found = reshape(dy, rows, batch)
    @test found[1:d, :] ≈ slope(state(y)) rtol = 1e-12
    noise = flow.noisy ? reshape(y, rows, batch)[(d + 2):end, :] : nothing
    shifted(direction) = (slope(state(y) .+ h .* vec(direction)) .-
                          slope(state(y) .- h .* vec(direction))) ./ 2h
    divergence = flow.noisy ? sum(noise .* shifted(noise); dims = 1) :
                 sum(shifted(repeat(I(d)[:, i], 1, batch))[i:i, :] for i in 1:d)
    @test found[d + 1, :] ≈ vec(divergence) rtol = 1e-7 atol = 1e-9
    flow.noisy && @test all(iszero, found[(d + 2):end, :])
    bar = sin.(2 .* (1:length(y)))
    network = rhs.network
    value(flat, y, t) = sum(bar .* PyNODE.forward!(similar(y), PyNODE.load!(network, flat), t, y))
    tape = PyNODE.new_tape(network)
    PyNODE.forward!(dy, network, t, y, tape)
    y_bar, flat_bar = copy(bar), similar(flat)
    PyNODE.pullback!(y_bar, network, tape)
    t_bar = PyNODE.time_cotangent(network)
    PyNODE.unload_gradient!(flat_bar, network)
    difference(f, x, i) = (e = zero(x); e[i] = h; (f(x .+ e) - f(x .- e)) / 2h)
    @test y_bar ≈ [difference(y -> value(flat, y, t), y, i) for i in eachindex(y)] rtol = 1e-6
    some = 1:3:length(flat)
    @test flat_bar[some] ≈ [difference(w -> value(w, y, t), flat, i) for i in some] rtol = 1e-6
    @test t_bar ≈ (value(flat, y, t + h) - value(flat, y, t - h)) / 2h atol = 1e-7
    # In place, and of dual numbers where a solver asks for them.
    @test allocated(rhs, dy, y, nothing, t) == 0
    @test allocated(PyNODE.pullback!, y_bar, network, tape) == 0
    f = PyNODE.ode_function(PyNODE.load!(rhs, flat), true, y)
    dT = similar(y)
    f.tgrad(dT, y, nothing, t)
    after, before = similar(y), similar(y)
    rhs(after, y, nothing, t + h)
    rhs(before, y, nothing, t - h)
    @test dT ≈ (after .- before) ./ 2h atol = 1e-7
end

@testset "an objective's cotangents against finite differences" begin
    h, indices, stops = 1e-6, Int32[4, 0, 2], 2
    targets = cos.(reshape(1:30, 3, stops, 5))
    targets[2, 1, 5] = targets[3, 2, 1] = NaN
    targets[:, :, 3] .= NaN
    labels = Int32[2, 0, 1, 0, 2]
    weights = [1.0, 2.0, 0.5]
    cases = [
        (PyNODE.CrossEntropy(weights), labels, 1),
        (PyNODE.OneLogit(PyNODE.CrossEntropy(weights[1:2])), min.(labels, 1), 1),
        (PyNODE.SquaredError(), targets, stops),
        (PyNODE.NegativeLogDensity(), nothing, 1)
    ]
    for (objective, seen, stops) in cases
        numbers = objective isa PyNODE.OneLogit ? 1 : 3
        outputs = sin.(reshape(1:(numbers * 3 * stops), numbers, 3 * stops))
        value(outputs) = first(PyNODE.loss!(copy(outputs), objective, seen, indices))
        bars = copy(outputs)
        PyNODE.loss!(bars, objective, seen, indices)
        differences = map(eachindex(outputs)) do i
            e = zero(outputs)
            e[i] = h
            (value(outputs .+ e) - value(outputs .- e)) / 2h
        end
        @test vec(bars) ≈ differences atol = 1e-8
    end
end

@testset "a path read at several times: $name" for (name, tableau) in ("RK4" => RK4,
        "SDIRK2" => SDIRK2)
    field, h = last(FIELDS[1]), 1e-6
    rhs = RightHandSide(field, 3, Float64)
    flat, y0 = weights_of(field), states_of(field, 3)
    bars = sin.(2 .* reshape(1:(2 * length(y0)), :, 2))
    steps = Steps([0.5, 1.1], [0.25, 0.5, 0.75, 1.0, 1.1], 0.25, 0.0, 0.0, 100, false)
    path = PyNODE.Path(rhs, PyNODE.Euler(), tableau, steps, 0.0)
    function value(flat, y0)
        y1, _, _ = PyNODE.follow!(PyNODE.load!(path, flat), y0)
        return sum(bars .* PyNODE.saved(path, y1))
    end
    value(flat, y0)
    slope = similar(flat)
    y_bar = PyNODE.pull!(copy(bars), slope, path)
    difference(f, x, i) = (d = zero(x); d[i] = h; (f(x .+ d) - f(x .- d)) / 2h)
    @test y_bar ≈ [difference(y -> value(flat, y), y0, i) for i in eachindex(y0)] rtol = 1e-6
    some = 1:3:length(flat)
    @test slope[some] ≈ [difference(w -> value(w, y0), flat, i) for i in some] rtol = 1e-6
end

@testset "the Lux chain is the field: $name" for (name, field) in FIELDS
    batch, t = 4, 0.7
    flat, y = weights_of(field), states_of(field, batch)
    chain = PyNODE.lux_chain(field)
    parameters = PyNODE.lux_parameters(field, flat)
    ours = PyNODE.forward!(similar(y), PyNODE.load!(Network{Float64}(field, batch), flat), t, y)
    theirs = PyNODE.lux_apply(field, chain, parameters, PyNODE.lux_states(chain), t, y)
    @test ours ≈ theirs rtol = 1e-12
    @test PyNODE.flat_parameters!(similar(flat), field, parameters) == flat
end

# JLArrays are arrays of a device that lives in the host's memory: what works on them without
# scalar indexing works on a GPU. NNlib has convolutions for the host and for CUDA, not for them.
const DEVICE_FIELDS = [
    FIELDS[1],
    "dense" => VectorField((2,), false, Dense(2, 6), Activation("relu"), Dense(6, 2))
]

@testset "on a device: $name" for (name, field) in DEVICE_FIELDS
    allowscalar(false)
    batch = 3
    flat, y0 = weights_of(field), states_of(field, batch)
    bar = sin.(2 .* (1:length(y0)))
    host = RightHandSide(field, batch, Float64)
    device = RightHandSide(PyNODE.lux_network(field, batch, Float64, JLArray))
    ours, theirs = along(host, RK4, flat, y0, bar), along(device, RK4, flat, y0, bar)
    @test device.network.parameters[1].weight isa JLArray
    @test ours.y1 ≈ theirs.y1 rtol = 1e-12
    @test ours.slope ≈ theirs.slope rtol = 1e-10
    @test ours.y_bar ≈ theirs.y_bar rtol = 1e-10
    adaptive = Steps([1.0], Float64[], 0.0, 1e-8, 1e-8, 1000, false)
    solutions = map((host, device)) do rhs
        PyNODE.solve_field(rhs, false, PyNODE.Tsit5(), flat, y0, 0.0, adaptive).y
    end
    @test solutions[1] ≈ solutions[2] rtol = 1e-7
end

@testset "training on a device: $name" for (name, make_head, objective, outer, targets) in (
    ("labels", PyNODE.LinearHead, PyNODE.CrossEntropy(ones(2)), 6, Int32.(mod.(1:20, 2))),
    ("numbers", PyNODE.StateHead, PyNODE.SquaredError(), 0, reshape(sin.(1:80), 2, 2, 20)))

    allowscalar(false)
    field, stops = last(DEVICE_FIELDS[2]), ndims(targets) == 1 ? [1.0] : [0.5, 1.0]
    weights = 0.3 .* sin.(1:(PyNODE.weights_length(field) + outer))
    x = reshape(cos.(1:40), 2, 20)
    batches = Int32.(reshape(mod.(7 .* (0:23), 20), 8, 3))
    steps = Steps(stops, [0.5, 1.0], 0.5, 0.0, 0.0, 100, false)
    trained = map((RightHandSide(field, 8, Float64),
        RightHandSide(PyNODE.lux_network(field, 8, Float64, JLArray)))) do rhs
        path = PyNODE.Path(rhs, PyNODE.Euler(), RK4, steps, 0.0)
        w, metrics = copy(weights), zeros(3, 3)
        done = PyNODE.train!(w, zero(w), zero(w), metrics, path, zeros(2, 8), x, targets, batches,
            make_head(path, 2), objective, PyNODE.Adam(1e-2, 0.9, 0.999, 1e-8), 0)
        @test done == (3, "Success")
        w
    end
    @test trained[1] ≈ trained[2] rtol = 1e-8
    @test trained[1] != weights
end

# The package as a whole, with its extensions

using Aqua: Aqua
using DiffEqFlux: DiffEqFlux
using ExplicitImports: check_all_explicit_imports_are_public, check_all_explicit_imports_via_owners,
                       check_all_qualified_accesses_via_owners, check_no_implicit_imports,
                       check_no_self_qualified_accesses, check_no_stale_explicit_imports
using SciMLSensitivity: SciMLSensitivity
using TOML: TOML

@testset "Aqua" begin
    # Sub-libraries are loaded when one of their solvers is first asked for.
    project = TOML.parsefile(joinpath(pkgdir(PyNODE), "Project.toml"))
    lazy = [Symbol(name) for name in keys(project["deps"]) if startswith(name, "OrdinaryDiffEq")]
    # `persistent_tasks` resolves an environment, for which it needs a registry; no task is started.
    Aqua.test_all(PyNODE; stale_deps = (; ignore = lazy), persistent_tasks = false)
end

# What extensions take of other packages that these do not export.
const INTERNALS = (:AbstractNLSolverAlgorithm, :COEFFICIENT_MULTISTEP, :Convergence, :DEIntegrator,
    :Divergence, :Dual, :LinearCache, :NLNewton, :NLSolver,
    :OrdinaryDiffEqAdaptiveExponentialAlgorithm, :OrdinaryDiffEqAlgorithm, :Partials,
    :SciMLLinearSolveAlgorithm, :Tag, :increment_nf!, :nlsolve_f)

@testset "ExplicitImports" begin
    @test check_no_implicit_imports(PyNODE) === nothing
    @test check_no_stale_explicit_imports(PyNODE) === nothing
    @test check_no_self_qualified_accesses(PyNODE) === nothing
    @test check_all_explicit_imports_via_owners(PyNODE) === nothing
    # Lux's own interface, which it takes from LuxCore.
    @test check_all_qualified_accesses_via_owners(PyNODE; ignore = (:initialstates, :setup)) ===
          nothing
    own = Tuple(names(PyNODE; all = true))
    @test check_all_explicit_imports_are_public(PyNODE; ignore = (own..., INTERNALS...)) === nothing
end
