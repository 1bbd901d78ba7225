using PyNODE
using PyNODE: Activation, Conv, Dense, Network, RightHandSide, Steps, Tableau, VectorField
using Test

const FIELDS = [
    "dense, with time" => VectorField((3,), true, Dense(4, 5), Activation("gelu"), Dense(5, 3)),
    "line, one matrix" => VectorField((2,), false, Conv(1, 3, 1, 1), Activation("tanh"),
        Conv(3, 2, 3, 1), Activation("silu"), Conv(2, 1, 1, 1)),
    "line, windows" => VectorField((5,), true, Conv(2, 3, 3, 1), Activation("softplus"),
        Conv(3, 1, 1, 1)),
    "image" => VectorField((2, 4, 3), true, Conv(3, 4, 1, 2), Activation("elu"),
        Conv(4, 4, 3, 2), Activation("sigmoid"), Conv(4, 2, 1, 2))
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

@testset "block-diagonal Jacobian" begin
    field = last(FIELDS[1])
    rhs = PyNODE.load!(RightHandSide(field, 3, Float64), weights_of(field))
    y, h = states_of(field, 3), 1e-6
    J = PyNODE.jacobian_prototype(rhs)
    PyNODE.jacobian!(J, rhs, y, 0.2)
    f(y) = (dy = similar(y); rhs(dy, y, nothing, 0.2); dy)
    columns = [(d = zero(y); d[i] = h; (f(y .+ d) .- f(y .- d)) ./ 2h) for i in eachindex(y)]
    @test Matrix(J) ≈ reduce(hcat, columns) atol = 1e-8
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
