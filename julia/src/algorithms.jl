# Solvers by name. A sub-library is loaded when the first of its solvers is asked for.

"""
The module of a package, loaded: one of this package's own dependencies, of the environment, or one
that is loaded already. An `ArgumentError` names one that the environment does not have.
"""
function sublibrary(name::AbstractString)
    id = package_id(name)
    if !isnothing(id)
        loaded = Base.require(id)
        startswith(name, "OrdinaryDiffEq") && load_image(id)
        return loaded
    end
    for (other, loaded) in Base.loaded_modules
        other.name == name && return loaded
    end
    throw(ArgumentError("the Julia environment lacks $name. Add: using Pkg; Pkg.add(\"$name\")"))
end

"""
    algorithm(name, library; options...)

The solver `name` of the sub-library `library`, made with the keyword arguments `options`.
`stiff = "..."` names the Rosenbrock method that a switching one (`AutoTsit5`, ...) takes for stiff
stretches: Rosenbrock23 unless it is given. See `option` for what text means elsewhere.
"""
function algorithm(name::AbstractString, library::AbstractString; options...)
    constructor = getproperty(sublibrary(library), Symbol(name))
    keywords = Dict{Symbol, Any}(options)
    stiff = String(pop!(keywords, :stiff, "Rosenbrock23"))
    keywords = Dict{Symbol, Any}(key => option(key, value) for (key, value) in keywords)
    startswith(name, "Auto") || return Base.invokelatest(constructor; keywords...)
    partner = getproperty(sublibrary("OrdinaryDiffEqRosenbrock"), Symbol(stiff))
    return Base.invokelatest(constructor, Base.invokelatest(partner); keywords...)
end

# Where the constructors of an option's value live.
const OPTION_PACKAGES = Dict(
    :autodiff => "ADTypes",
    :linsolve => "LinearSolve",
    :nlsolve => "OrdinaryDiffEqNonlinearSolve",
    :tableau => "OrdinaryDiffEqExplicitTableaus"
)

"""
An option as the constructor takes it. Text is a symbol, or for the options of `OPTION_PACKAGES` a
constructor there, with keyword arguments or without: `"AutoFiniteDiff"`, `"NLNewton(max_iter = 50)"`.
`autodiff` may be true or false, as it was before version 7.
"""
option(key::Symbol, value) = value

function option(key::Symbol, value::Bool)
    key === :autodiff || return value
    return option(key, value ? "AutoForwardDiff" : "AutoFiniteDiff")
end

function option(key::Symbol, value::AbstractString)
    haskey(OPTION_PACKAGES, key) || return Symbol(value)
    name, keywords = call_parts(key, Meta.parse(value))
    library = sublibrary(OPTION_PACKAGES[key])
    isdefined(library, name) || throw(ArgumentError(
        "$key = \"$value\": $(OPTION_PACKAGES[key]) has no $name."))
    constructor = getproperty(library, name)
    # Some tableaus are BigFloats unless told otherwise.
    key === :tableau && return Base.invokelatest(constructor, Float64; keywords...)
    return Base.invokelatest(constructor; keywords...)
end

"""The name and the keyword arguments, which are plain values, of `Name` or `Name(key = value, ...)`."""
function call_parts(key, parsed)
    parsed isa Symbol && return parsed, Pair{Symbol, Any}[]
    plain = Meta.isexpr(parsed, :call) && first(parsed.args) isa Symbol &&
            all(is_plain_keyword, parsed.args[2:end])
    plain || throw(ArgumentError("$key = \"$parsed\": expected Name or Name(key = value, ...)."))
    return first(parsed.args), Pair{Symbol, Any}[each.args[1] => plain_value(each.args[2])
                                                for each in parsed.args[2:end]]
end

is_plain_keyword(each) = Meta.isexpr(each, :kw) && is_plain(each.args[2])
is_plain(value) = value isa Union{Real, Bool, String, QuoteNode} || value === :nothing ||
                  Meta.isexpr(value, :call) && first(value.args) in (:-, ://, :/) &&
                  all(is_plain, value.args[2:end])
plain_value(value) = value
plain_value(value::QuoteNode) = value.value
plain_value(value::Symbol) = nothing
plain_value(value::Expr) =
    getfield(Base, first(value.args))(map(plain_value, value.args[2:end])...)

"""The solvers that a sub-library exports: names of types that are ODE algorithms."""
function exported_solvers(library::AbstractString)
    loaded = sublibrary(library)
    return Base.invokelatest() do
        core = Base.loaded_modules[Base.identify_package(PyNODE, "OrdinaryDiffEqCore")]
        named = [(name, getproperty(loaded, name)) for name in names(loaded)]
        return [String(name) for (name, value) in named
                if value isa Type && value <: core.OrdinaryDiffEqAlgorithm &&
                   !isabstracttype(value)]
    end
end

"""The name of an algorithm's type: the solver's."""
solver_name(algorithm) = String(nameof(typeof(algorithm)))

"""The version of OrdinaryDiffEqCore."""
core_version() = string(pkgversion(sublibrary("OrdinaryDiffEqCore")))

const SOURCES = Dict{String, String}()

"""
Whether the source of a sub-library that the environment has speaks of the solver: whether this
version has it, found without loading anything.
"""
function speaks_of(name::AbstractString, library::AbstractString)
    has_package(library) || return false
    text = get!(SOURCES, library) do
        folder = dirname(Base.locate_package(package_id(library)))
        files = [joinpath(root, file) for (root, _, names) in walkdir(folder) for file in names]
        join((read(file, String) for file in files if endswith(file, ".jl")), '\n')
    end
    return occursin(Regex("(?<![\\w!])\\Q$name\\E(?![\\w!])"), text)
end

"""Whether this version of the sub-library has the solver; loads it."""
has_solver(name::AbstractString, library::AbstractString) =
    isdefined(sublibrary(library), Symbol(name))
