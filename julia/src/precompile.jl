# What most sessions begin with, compiled into the package image.

@setup_workload begin
    layers = (Conv(1, 4, 1, 1), Activation("relu"), Conv(4, 4, 3, 1), Activation("tanh"),
        Conv(4, 1, 1, 1))
    field = VectorField((2,), false, layers...)
    @compile_workload for T in (Float32, Float64)
        rhs = RightHandSide(field, 3, T)
        flat, y0 = zeros(T, weights_length(field)), ones(T, 6)
        steps = Steps([1.0], [0.5, 1.0], 0.5, 0.0, 0.0, 100, false)
        adaptive = Steps([1.0], Float64[], 0.0, 1e-3, 1e-6, 100, true)
        solve_field(rhs, false, Euler(), flat, y0, 0.0, steps)
        solve_field(rhs, false, Tsit5(), flat, y0, 0.0, adaptive)
        path = Path(rhs, Euler(), Tableau(zeros(1, 1), [1.0], [0.0]), steps, 0.0)
        vjp!(copy(flat), copy(y0), path, flat, y0)
        sweep = Sweep(rhs.network, Tableau(zeros(1, 1), [1.0], [0.0]), 0)
        kept = first(keep!(zeros(T, 6, 1), rhs, sweep, Euler(), flat, y0, 0.0,
            Steps([1.0], [0.5, 1.0], 0.5, 0.0, 0.0, 100, true)))
        pull_back!(copy(flat), copy(y0), zeros(T, 2), kept, ones(T, 6, 1))
        both = zeros(T, length(flat) + 6)
        for (weights, head, objective, targets) in (
            (both, LinearHead(path, 2), CrossEntropy(ones(T, 2)), Int32[0, 1, 0, 1]),
            (flat, StateHead(path, 2), SquaredError(), zeros(T, 2, 1, 4)))

            train!(weights, zero(weights), zero(weights), zeros(T, 3, 1), path, zeros(T, 2, 3),
                ones(T, 2, 4), targets, Int32[0; 1; 2;;], head, objective,
                Adam(1e-3, 0.9, 0.999, 1e-8), 0)
        end
    end
end
