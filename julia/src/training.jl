# Training: iterations of Adam on the objective of a model, many in one call.

"""Adam (Kingma & Ba 2015), in the form that torch and optax share."""
struct Adam
    learning_rate::Float64
    b1::Float64
    b2::Float64
    eps::Float64
end

"""One update, in place, after which `count` updates have been made."""
function update!(weights::AbstractVector{T}, mu, nu, slope, adam::Adam, count) where {T}
    b1, b2, eps, rate = T(adam.b1), T(adam.b2), T(adam.eps), T(adam.learning_rate)
    correct1, correct2 = T(1 - adam.b1^count), T(1 - adam.b2^count)
    @inbounds @simd for i in eachindex(weights, mu, nu, slope)
        mu[i] = b1 * mu[i] + (1 - b1) * slope[i]
        nu[i] = b2 * nu[i] + (1 - b2) * slope[i]^2
        weights[i] -= rate * (mu[i] / correct1) / (sqrt(nu[i] / correct2) + eps)
    end
    return weights
end

"""
    train!(weights, mu, nu, metrics, path, start, x, targets, batches, head, objective, adam,
        iteration)

One iteration per column of `batches` (indices from 0), in place. `weights`, `mu` and `nu` are flat:
the field's, then the head's. `x` is (input size, n); an initial state is that of `start`, (state
size, batch), with an input in its first numbers. `metrics` (3, iterations) gets the loss, the mean
score and the evaluations. All of these are the host's; states live where the path's network has
them. Returns the iterations done and why it ended: an iteration that meets what is not finite, or a
solve that fails, makes no update.
"""
function train!(weights::AbstractVector{T}, mu, nu, metrics, path::AbstractPath{T}, start, x,
        targets, batches, head::AbstractHead{T}, objective::Objective, adam::Adam,
        iteration::Integer) where {T}
    net = network(path)
    n, size_of_state = weights_length(net.field), state_size(net.field)
    own, outer = 1:n, (n + 1):length(weights)
    slope, y0, inputs = similar(weights), copy(start), size(x, 1)
    bars = allocate(net, size_of_state * net.batch, stops(path))
    for (i, indices) in enumerate(eachcol(batches))
        load!(path, view(weights, own))
        for (column, index) in enumerate(indices)
            copyto!(view(y0, 1:inputs, column), view(x, :, index + 1))
        end
        y1, nf, code = follow!(path, on_device(net, vec(y0)))
        code == "Success" || return i - 1, code
        states = reshape(saved(path, y1), size_of_state, :)
        outputs = read_out!(head, view(weights, outer), states)
        loss, score = loss!(outputs, objective, targets, indices)
        pull_read_out!(reshape(bars, size_of_state, :), view(slope, outer), head, states)
        pull!(bars, view(slope, own), path)
        isfinite(loss) && all(isfinite, slope) || return i - 1, "Unstable"
        update!(weights, mu, nu, slope, adam, iteration + i)
        metrics[:, i] .= (loss, score, nf)
    end
    return size(batches, 2), "Success"
end
