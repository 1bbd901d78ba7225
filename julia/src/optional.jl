# What package extensions add: the generic functions that they give methods to, and how a package
# that only some calls need is loaded.

"""The field as a Lux chain."""
function lux_chain end
"""The flat weights, in Python's order and layouts, as the parameters of `lux_chain(field)`."""
function lux_parameters end
"""The inverse of `lux_parameters`, for parameters or a gradient of theirs."""
function flat_parameters! end
"""The states of a Lux layer."""
function lux_states end
"""`f(t, y)` by a field's Lux chain, on flat states."""
function lux_apply end
"""`layer_field(layer, shape, seed)`: a user's own Lux layer as a field, and initial weights."""
function layer_field end
"""`lux_network(field, batch, T, to)`: a field on the device that `to` brings arrays to."""
function lux_network end
"""`zygote_path(rhs, run, structured)`: the gradient of the solve `run(y0, p)` by Zygote."""
function zygote_path end
"""`adjoint_path(rhs, algorithm, steps, t0, method, vjp)`: gradients by SciMLSensitivity."""
function adjoint_path end
"""`node_path(rhs, algorithm, steps, t0)`: gradients by DiffEqFlux's `NeuralODE` as it comes."""
function node_path end

"""
`for_fixed_steps(algorithm, f)`: the algorithm with settings of Newton's method that solve stages to
rounding, where it has them and the user chose none.
"""
for_fixed_steps(algorithm, f) = algorithm
"""`dual_jacobian!(blocks, f!, y, p, t)`: the Jacobian of each sample by ForwardDiff."""
function dual_jacobian! end
"""`dual_time_derivative!(dT, f!, y, p, t)`: the derivative of `f!` by the time, by ForwardDiff."""
function dual_time_derivative! end

const EXTENSIONS = Dict(
    "lux" => ["Lux", "Zygote", "ComponentArrays"],
    "adjoint" => ["SciMLSensitivity", "Zygote", "Lux", "ComponentArrays"],
    "node" => ["DiffEqFlux", "SciMLSensitivity", "Zygote", "Lux", "ComponentArrays"],
    "gpu" => ["LuxCUDA", "Lux", "Zygote", "ComponentArrays"]
)

"""
Load what `feature`, a key of `EXTENSIONS`, needs. An `ArgumentError` names the packages that the
environment does not have.
"""
function need(feature::AbstractString)
    missing_ones = filter(!has_package, EXTENSIONS[feature])
    isempty(missing_ones) || throw(ArgumentError(string(
        "the Julia environment lacks ", join(missing_ones, ", "), ". Add: using Pkg; Pkg.add([",
        join(repr.(missing_ones), ", "), "])")))
    foreach(name -> Base.require(package_id(name)), EXTENSIONS[feature])
    return nothing
end

"""Whether the environment has the package; nothing is loaded."""
function has_package(name::AbstractString)
    id = package_id(name)
    return !isnothing(id) && !isnothing(Base.locate_package(id))
end

# An environment names what it asked for; the sub-libraries are this package's own dependencies.
function package_id(name::AbstractString)
    id = Base.identify_package(String(name))
    return isnothing(id) ? Base.identify_package(PyNODE, String(name)) : id
end

"""The version of a package that the environment has, or "" for one that it lacks."""
function package_version(name::AbstractString)
    has_package(name) || return ""
    project = joinpath(dirname(dirname(Base.locate_package(package_id(name)))),
        "Project.toml")
    return String(get(TOML.parsefile(project), "version", "?"))
end

# Where states can live: a name to the function that brings a host's array there.
const DEVICES = Dict{String, Any}("cpu" => identity)
