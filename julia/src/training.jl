# Training: iterations of Adam on the cross-entropy of a model, many in one call.

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

"""The linear head on a batch, with its cross-entropy. `weight` is (size, classes)."""
struct Head{T, M <: AbstractMatrix{T}}
    weight::M
    logits::M
    weight_bar::M
    host::Matrix{T} # logits, then their cotangents: few numbers, and a loop over them
    bias_bar::Vector{T}
end

function Head(network::AbstractNetwork{T}, classes::Integer) where {T}
    size, batch = state_size(network.field), network.batch
    return Head(allocate(network, size, classes), allocate(network, classes, batch),
        allocate(network, size, classes), zeros(T, classes, batch), zeros(T, classes))
end

"""
Mean cross-entropy and accuracy; `bar` becomes the cotangent of the states `y`, (size, batch), and
the head keeps its own gradients. `labels` count from 0.
"""
function loss!(bar, head::Head{T}, weight, bias, y, labels) where {T}
    copyto!(head.weight, Array(weight)) # to a device only an array as a whole
    mul!(head.logits, transpose(head.weight), y)
    logits = copyto!(head.host, head.logits)
    logits .+= bias
    loss, right, batch = zero(T), 0, size(y, 2)
    for (column, label) in zip(eachcol(logits), labels)
        right += argmax(column) == label + 1
        largest = maximum(column)
        total = sum(x -> exp(x - largest), column)
        loss += log(total) + largest - column[label + 1]
        @. column = exp(column - largest) / total
        column[label + 1] -= 1
    end
    logits ./= batch
    sum!(head.bias_bar, logits)
    copyto!(head.logits, logits)
    mul!(head.weight_bar, y, transpose(head.logits))
    mul!(bar, head.weight, head.logits)
    return loss / batch, T(right) / batch
end

"""
    train!(weights, mu, nu, metrics, path, x, labels, batches, classes, adam, iteration)

One iteration per column of `batches` (indices from 0), in place. `weights`, `mu` and `nu` are flat:
the field's, then the head's; `x` is (input size, n); `metrics` (3, iterations) gets the loss, the
accuracy and the evaluations. All of these are the host's; states live where the path's network has
them. Returns the iterations done and why it ended: an iteration that meets what is not finite, or a
solve that fails, makes no update.
"""
function train!(weights::AbstractVector{T}, mu, nu, metrics, path::AbstractPath{T}, x, labels,
        batches, classes::Integer, adam::Adam, iteration::Integer) where {T}
    net = network(path)
    n, size_of_state = weights_length(net.field), state_size(net.field)
    split = n + size_of_state * classes
    weight = reshape(view(weights, (n + 1):split), size_of_state, classes)
    bias = view(weights, (split + 1):length(weights))
    slope, y0 = similar(weights), zeros(T, size_of_state, net.batch)
    head, bar = Head(net, classes), allocate(net, size_of_state, net.batch)
    inputs = size(x, 1)
    for (i, indices) in enumerate(eachcol(batches))
        load!(path, view(weights, 1:n))
        for (column, index) in enumerate(indices)
            copyto!(view(y0, 1:inputs, column), view(x, :, index + 1))
        end
        y1, nf, code = follow!(path, on_device(net, vec(y0)))
        code == "Success" || return i - 1, code
        y1 = reshape(y1, size_of_state, :)
        loss, accuracy = loss!(bar, head, weight, bias, y1, view(labels, indices .+ 1))
        pull!(vec(bar), view(slope, 1:n), path)
        copyto!(view(slope, (n + 1):split), vec(Array(head.weight_bar)))
        copyto!(view(slope, (split + 1):length(slope)), head.bias_bar)
        isfinite(loss) && all(isfinite, slope) || return i - 1, "Unstable"
        update!(weights, mu, nu, slope, adam, iteration + i)
        metrics[:, i] .= (loss, accuracy, nf)
    end
    return size(batches, 2), "Success"
end
