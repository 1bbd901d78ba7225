# Elementwise nonlinearities and their derivatives, by code, so that one compiled loop serves every
# field: the solvers' code then depends on the element type alone.

const ACTIVATIONS = ("relu", "tanh", "softplus", "sigmoid", "gelu", "elu", "silu")

sigmoid(x) = ifelse(x >= 0, 1 / (1 + exp(-abs(x))), exp(-abs(x)) / (1 + exp(-abs(x))))
softplus(x) = max(x, zero(x)) + log1p(exp(-abs(x)))
relu(x) = max(x, zero(x))
elu(x) = ifelse(x > 0, x, expm1(min(x, zero(x))))
silu(x) = x * sigmoid(x)
# The exact form, as torch's default.
gelu(x) = x * (1 + erf(x / sqrt(oftype(x, 2)))) / 2

"""Codes of the activations whose derivative their output tells."""
const FROM_OUTPUT = (1, 2, 3, 4, 6)

# Derivatives, of these from the output y, of the others from the input x.
drelu(y) = ifelse(y > 0, one(y), zero(y))
dtanh(y) = 1 - y * y
dsoftplus(y) = -expm1(-y)
dsigmoid(y) = y * (1 - y)
delu(y) = ifelse(y > 0, one(y), y + 1)
dsilu(x) = (s = sigmoid(x); s * (1 + x * (1 - s)))
function dgelu(x)
    density = exp(-x * x / 2) / sqrt(oftype(x, 2) * oftype(x, pi))
    return (1 + erf(x / sqrt(oftype(x, 2)))) / 2 + x * density
end

"""`y .= activation.(x)` for the activation of number `code` in `ACTIVATIONS`."""
function activate!(y, x, code::Int)
    code == 1 ? map!(relu, y, x) :
    code == 2 ? map!(tanh, y, x) :
    code == 3 ? map!(softplus, y, x) :
    code == 4 ? map!(sigmoid, y, x) :
    code == 5 ? map!(gelu, y, x) :
    code == 6 ? map!(elu, y, x) : map!(silu, y, x)
    return y
end

"""`g .*= activation'.(x)`: the cotangent of the output `y` becomes that of the input `x`."""
function pull_activation!(g, x, y, code::Int)
    return code in FROM_OUTPUT ? pull_finish!(g, nothing, y, code) :
           code == 5 ? (@. g *= dgelu(x)) : (@. g *= dsilu(x))
end

"""`y .= activation.(y .+ bias)`, for a code of `FROM_OUTPUT`; 0 is none."""
function finish!(y, bias, code::Int)
    return code == 0 ? finish_with!(identity, y, bias) :
           code == 1 ? finish_with!(relu, y, bias) :
           code == 2 ? finish_with!(tanh, y, bias) :
           code == 3 ? finish_with!(softplus, y, bias) :
           code == 4 ? finish_with!(sigmoid, y, bias) : finish_with!(elu, y, bias)
end

function finish_with!(activation::F, y, bias) where {F}
    @inbounds for j in axes(y, 2)
        @simd for i in axes(y, 1)
            y[i, j] = activation(y[i, j] + bias[i])
        end
    end
    return y
end

"""
The cotangent `g` of the output `y` of `finish!` becomes that of its input; its sums by rows are
added to `bias`, unless that is `nothing`.
"""
function pull_finish!(g, bias, y, code::Int)
    return code == 0 ? pull_finish_with!(_ -> true, g, bias, y) :
           code == 1 ? pull_finish_with!(drelu, g, bias, y) :
           code == 2 ? pull_finish_with!(dtanh, g, bias, y) :
           code == 3 ? pull_finish_with!(dsoftplus, g, bias, y) :
           code == 4 ? pull_finish_with!(dsigmoid, g, bias, y) : pull_finish_with!(delu, g, bias, y)
end

function pull_finish_with!(derivative::F, g, bias, y) where {F}
    @inbounds for j in axes(g, 2)
        @simd for i in axes(g, 1)
            value = g[i, j] * derivative(y[i, j])
            g[i, j] = value
            isnothing(bias) || (bias[i] += value)
        end
    end
    return g
end

# Second derivatives: of `FROM_OUTPUT` over the first one, from the output y, of the others from the
# input x.
no_curvature(y) = zero(y)
tanh_curvature(y) = -2y
softplus_curvature(y) = exp(-y)
sigmoid_curvature(y) = 1 - 2y
elu_curvature(y) = ifelse(y > 0, zero(y), one(y))
silu_curvature(x) = (s = sigmoid(x); s * (1 - s) * (2 + x * (1 - 2s)))
gelu_curvature(x) = (2 - x * x) * exp(-x * x / 2) / sqrt(oftype(x, 2) * oftype(x, pi))

"""`f(derivative, curvature, arguments...)` with the two of an activation."""
@inline function with_derivatives(f::F, code::Int, arguments::Vararg{Any, N}) where {F, N}
    return code == 1 ? f(drelu, no_curvature, arguments...) :
           code == 2 ? f(dtanh, tanh_curvature, arguments...) :
           code == 3 ? f(dsoftplus, softplus_curvature, arguments...) :
           code == 4 ? f(dsigmoid, sigmoid_curvature, arguments...) :
           code == 5 ? f(dgelu, gelu_curvature, arguments...) :
           code == 6 ? f(delu, elu_curvature, arguments...) :
           f(dsilu, silu_curvature, arguments...)
end

"""
Tangents through an activation, in place. The first `batch` columns are samples, and as many follow
for each tangent of theirs; `seen` is what the derivative is taken from; `slope` is scratch.
"""
function push_tangents!(derivative::F, ::Any, columns, seen, batch, slope) where {F}
    @inbounds for j in 1:batch
        @simd for i in axes(seen, 1)
            slope[i] = derivative(seen[i, j])
        end
        for column in (j + batch):batch:size(columns, 2)
            @simd for i in axes(seen, 1)
                columns[i, column] *= slope[i]
            end
        end
    end
    return columns
end

"""
The reverse of an activation and of `push_tangents!`, in place of the cotangents `bars`: those of
samples get what the tangents' derivatives give them, and their sums by rows are added to `bias`, if
`summed`. `seen` are the columns behind the activation for `FROM_OUTPUT`, else those
before it; `slope` and `bend` are scratch.
"""
function pull_tangents!(derivative::F, curvature::G, bars, bias, summed::Bool, seen, batch, slope,
        bend) where {F, G}
    @inbounds for j in 1:batch
        @simd for i in axes(seen, 1)
            slope[i] = derivative(seen[i, j])
            bend[i] = 0
        end
        for column in (j + batch):batch:size(bars, 2)
            @simd for i in axes(seen, 1)
                bend[i] = muladd(seen[i, column], bars[i, column], bend[i])
                bars[i, column] *= slope[i]
            end
        end
        @simd for i in axes(seen, 1)
            bars[i, j] = bars[i, j] * slope[i] + curvature(seen[i, j]) * bend[i]
        end
        summed || continue
        @simd for i in axes(seen, 1)
            bias[i] += bars[i, j]
        end
    end
    return bars
end

"""The activations as scalar functions, by number."""
const SCALARS = (relu, tanh, softplus, sigmoid, gelu, elu, silu)
