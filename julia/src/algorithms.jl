# Solvers by name. A sub-library is loaded when the first of its solvers is asked for.

"""The loaded sub-library; an `ArgumentError` names one that the environment does not have."""
sublibrary(name::AbstractString) = Base.require(PyNODE, Symbol(name))

"""
    algorithm(name, library; options...)

The solver `name` of the sub-library `library`, made with the keyword arguments `options`.
`tableau = "..."` names a constructor of OrdinaryDiffEqExplicitTableaus, `stiff = "..."` the
Rosenbrock method that a switching one (`AutoTsit5`, ...) takes for stiff stretches: Rosenbrock23
unless it is given.
"""
function algorithm(name::AbstractString, library::AbstractString; options...)
    constructor = getproperty(sublibrary(library), Symbol(name))
    keywords = Dict{Symbol, Any}(key => option(key, value) for (key, value) in options)
    startswith(name, "Auto") || return Base.invokelatest(constructor; keywords...)
    stiff = pop!(keywords, :stiff, "Rosenbrock23")
    partner = getproperty(sublibrary("OrdinaryDiffEqRosenbrock"), Symbol(stiff))
    return Base.invokelatest(constructor, Base.invokelatest(partner); keywords...)
end

function option(key::Symbol, value)
    key === :tableau || return value
    library = sublibrary("OrdinaryDiffEqExplicitTableaus")
    # Some of them are BigFloats unless told otherwise.
    return Base.invokelatest(getproperty(library, Symbol(value)), Float64)
end

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

"""Whether this version of the sub-library has the solver; loads it."""
has_solver(name::AbstractString, library::AbstractString) =
    isdefined(sublibrary(library), Symbol(name))
