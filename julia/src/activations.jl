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

# Derivatives from the input x and the output y.
drelu(x, y) = ifelse(x > 0, one(x), zero(x))
dtanh(x, y) = 1 - y * y
dsoftplus(x, y) = sigmoid(x)
dsigmoid(x, y) = y * (1 - y)
delu(x, y) = ifelse(x > 0, one(x), y + 1)
dsilu(x, y) = (s = sigmoid(x); s * (1 + x * (1 - s)))
function dgelu(x, y)
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

"""`g .*= activation'.(x)`: the cotangent of the output becomes that of the input."""
function pull_activation!(g, x, y, code::Int)
    code == 1 ? (@. g *= drelu(x, y)) :
    code == 2 ? (@. g *= dtanh(x, y)) :
    code == 3 ? (@. g *= dsoftplus(x, y)) :
    code == 4 ? (@. g *= dsigmoid(x, y)) :
    code == 5 ? (@. g *= dgelu(x, y)) :
    code == 6 ? (@. g *= delu(x, y)) : (@. g *= dsilu(x, y))
    return g
end

"""The activations as scalar functions, by number."""
const SCALARS = (relu, tanh, softplus, sigmoid, gelu, elu, silu)
