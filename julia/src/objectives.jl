# What training minimises: how states are read out, and what is made of the outputs. The twins of
# pynode_jl/tasks and of the heads in pynode_jl/models.py.

"""
Reads states out. `read_out!(head, weights, states)` returns the outputs of states (state size, columns),
(outputs, columns) on the host; `pull_read_out!(bars, slope, head, states)`, after these have become their
cotangents, gives those of the states and of the head's flat weights.
"""
abstract type AbstractHead{T} end

"""The linear head; `weight` is (state size, outputs), the bias behind it in the flat weights."""
struct LinearHead{T, M <: AbstractMatrix{T}} <: AbstractHead{T}
    weight::M
    outputs::M
    weight_bar::M
    host::Matrix{T} # outputs, then their cotangents: few numbers, and loops over them
    bias_bar::Vector{T}
end

"""`outputs` numbers at each stop of a path."""
function LinearHead(path::AbstractPath{T}, outputs::Integer) where {T}
    net = network(path)
    size, columns = state_size(net.field), net.batch * stops(path)
    return LinearHead(allocate(net, size, outputs), allocate(net, outputs, columns),
        allocate(net, size, outputs), zeros(T, outputs, columns), zeros(T, outputs))
end

function read_out!(head::LinearHead, weights, states)
    n = length(head.weight)
    # To a device only an array as a whole.
    copyto!(head.weight, Array(reshape(view(weights, 1:n), size(head.weight))))
    mul!(head.outputs, transpose(head.weight), states)
    outputs = copyto!(head.host, head.outputs)
    return outputs .+= view(weights, (n + 1):length(weights))
end

function pull_read_out!(bars, slope, head::LinearHead, states)
    n = length(head.weight)
    sum!(head.bias_bar, head.host)
    copyto!(head.outputs, head.host)
    mul!(head.weight_bar, states, transpose(head.outputs))
    mul!(bars, head.weight, head.outputs)
    copyto!(view(slope, 1:n), vec(Array(head.weight_bar)))
    copyto!(view(slope, (n + 1):length(slope)), head.bias_bar)
    return bars
end

"""The first numbers of a state as they are; it has no weights."""
struct StateHead{T, M <: AbstractMatrix{T}} <: AbstractHead{T}
    outputs::M
    host::Matrix{T}
end

function StateHead(path::AbstractPath{T}, outputs::Integer) where {T}
    net = network(path)
    columns = net.batch * stops(path)
    return StateHead(allocate(net, outputs, columns), zeros(T, outputs, columns))
end

function read_out!(head::StateHead, weights, states)
    head.outputs .= view(states, axes(head.outputs, 1), :)
    return copyto!(head.host, head.outputs)
end

function pull_read_out!(bars, slope, head::StateHead, states)
    copyto!(head.outputs, head.host)
    fill!(bars, 0)
    view(bars, axes(head.outputs, 1), :) .= head.outputs
    return bars
end

"""
What is minimised. `loss!(outputs, objective, targets, indices)` returns the loss and the mean score
of a batch, the targets of which are those of `indices`, from 0; `outputs`, (numbers, batch * stops),
become their cotangents.
"""
abstract type Objective end

"""
Cross-entropy of logits against labels, which count from 0: the mean with a weight for each class. Its
score is the accuracy.
"""
struct CrossEntropy{T} <: Objective
    class_weights::Vector{T}
    CrossEntropy(class_weights::Vector{T}) where {T} = new{T}(copy(class_weights))
end

function loss!(logits::AbstractMatrix{T}, objective::CrossEntropy{T}, labels, indices) where {T}
    loss, right, weights = zero(T), 0, zero(T)
    for (column, index) in zip(eachcol(logits), indices)
        label = labels[index + 1]
        weight = objective.class_weights[label + 1]
        right += argmax(column) == label + 1
        largest = maximum(column)
        total = sum(x -> exp(x - largest), column)
        loss += weight * (log(total) + largest - column[label + 1])
        @. column = exp(column - largest) / total
        column[label + 1] -= 1
        column .*= weight
        weights += weight
    end
    logits ./= weights
    return loss / weights, T(right) / length(indices)
end

"""Cross-entropy of one logit, that of the second label against the first."""
struct OneLogit{T} <: Objective
    of::CrossEntropy{T}
end

function loss!(outputs::AbstractMatrix{T}, objective::OneLogit{T}, labels, indices) where {T}
    logits = vcat(zero(outputs), outputs)
    found = loss!(logits, objective.of, labels, indices)
    outputs .= view(logits, 2:2, :)
    return found
end

"""
Mean of the samples' mean squared errors, over what was observed: NaN among the targets, (numbers,
stops, n), marks what was not.
"""
struct SquaredError <: Objective end

function loss!(outputs::AbstractMatrix{T}, ::SquaredError, targets, indices) where {T}
    batch, loss = length(indices), zero(T)
    answers = reshape(outputs, size(outputs, 1), batch, :)
    for (sample, index) in enumerate(indices)
        total, observed = zero(T), 0
        for stop in axes(answers, 3), i in axes(answers, 1)
            target = targets[i, stop, index + 1]
            error = isnan(target) ? zero(T) : answers[i, sample, stop] - target
            observed += !isnan(target)
            total += error^2
            answers[i, sample, stop] = error
        end
        loss += total / max(observed, 1)
        view(answers, :, sample, :) .*= T(2) / (max(observed, 1) * batch)
    end
    return loss / batch, loss / batch
end

"""
Mean of negative log-densities per dimension: of a standard normal at the first numbers of an output,
less the last number, the integral of the divergence.
"""
struct NegativeLogDensity <: Objective end

function loss!(outputs::AbstractMatrix{T}, ::NegativeLogDensity, targets, indices) where {T}
    batch, d, loss = length(indices), size(outputs, 1) - 1, zero(T)
    for column in eachcol(outputs)
        z = view(column, 1:d)
        loss += (sum(abs2, z) / 2 - column[d + 1]) / d + T(log(2pi) / 2)
        z ./= d * batch
        column[d + 1] = -inv(T(d * batch))
    end
    return loss / batch, loss / batch
end
