# Package images: the solvers of a sub-library compiled once, for all later processes. One image is a
# package of its own, written into the depot, with nothing in it but what solving compiles.

"""The folder of the images in the first depot; a place of the load path once there is one."""
images_folder() = joinpath(first(Base.DEPOT_PATH), "pynode_jl", "images")

# A UUID that no other package has: that of the sub-library with its bits mixed.
const IMAGE_BITS = 0x70796e6f64655f6a6c5f696d61676573

image_id(library::Base.PkgId) =
    Base.PkgId(Base.UUID(library.uuid.value ⊻ IMAGE_BITS), "Image" * library.name)

"""
    build_image(library, solvers)

Compile `solvers`, name => whether it takes a Jacobian, of a sub-library in both precisions, with
fixed and with adaptive steps, into an image, beside those that are in it already. Names that this
version of the sub-library lacks are left out. Returns the names and the image's cache file.
"""
function build_image(library::AbstractString, solvers)
    has_package(library) || throw(ArgumentError("$library is not in the Julia environment."))
    of, folder = package_id(library), images_folder()
    id, loaded = image_id(of), Base.require(of)
    solvers = filter(((name, _),) -> isdefined(loaded, Symbol(name)), Dict(solvers))
    write_image(joinpath(folder, id.name), id, of, solvers)
    folder in LOAD_PATH || push!(LOAD_PATH, folder)
    if !Base.isprecompiled(id)
        made = Base.compilecache(id)
        made isa Exception && throw(made)
    end
    # The newest comes first.
    return sort!(collect(keys(solvers))), first(Base.find_all_in_cache_path(id))
end

function write_image(folder, id, of, solvers)
    mkpath(joinpath(folder, "src"))
    used = [of, Base.PkgId(PyNODE), Base.identify_package(PyNODE, "PrecompileTools")]
    file = joinpath(folder, "Project.toml")
    solvers = merge(solvers_in_image(file), Dict(String(name) => is for (name, is) in solvers))
    project = Dict("name" => id.name, "uuid" => string(id.uuid), "solvers" => solvers,
        "deps" => Dict(each.name => string(each.uuid) for each in used))
    write_if_other(file, sprint(TOML.print, project))
    names = join(("    $(repr(name)) => $(solvers[name])" for name in sort!(collect(keys(solvers)))),
        ",\n")
    write_if_other(joinpath(folder, "src", "$(id.name).jl"), """
        # Written by `pynode-jl julia precompile`.
        module $(id.name)
        import $(of.name), PyNODE, PrecompileTools
        PrecompileTools.@compile_workload PyNODE.compile_solvers("$(of.name)", [
        $names
        ])
        end
        """)
    return nothing
end

# A file that is written is a file that has changed, to Julia.
write_if_other(file, text) = isfile(file) && read(file, String) == text || write(file, text)

solvers_in_image(project) =
    isfile(project) ? get(TOML.parsefile(project), "solvers", Dict{String, Any}()) : Dict{String, Any}()

"""The solvers that an image of their present version holds."""
function compiled_solvers()
    folder, found = images_folder(), String[]
    isdir(folder) || return found
    folder in LOAD_PATH || push!(LOAD_PATH, folder)
    for name in readdir(folder)
        id = Base.identify_package(name)
        (isnothing(id) || !Base.isprecompiled(id)) && continue
        append!(found, keys(solvers_in_image(joinpath(folder, name, "Project.toml"))))
    end
    return sort!(found)
end

"""An image's workload: a small problem solved by each of `solvers`, name => takes a Jacobian."""
function compile_solvers(library::AbstractString, solvers)
    field = VectorField((2,), false, Dense(2, 2), Activation("tanh"))
    adaptive = Steps([1.0], Float64[], 0.0, 1e-2, 1e-2, 1000, false)
    fixed_steps = Steps([1.0], [0.5, 1.0], 0.5, 0.0, 0.0, 1000, false)
    for (name, takes_jacobian) in solvers, T in (Float32, Float64)
        rhs, flat = RightHandSide(field, 2, T), ones(T, weights_length(field))
        for steps in (adaptive, fixed_steps)
            try
                solve_field(rhs, takes_jacobian, algorithm(name, library), flat, ones(T, 4), 0.0,
                    steps)
            catch error
                # Not every solver takes both kinds of steps: it is compiled for what it takes.
                error isa InterruptException && rethrow()
            end
        end
    end
    return nothing
end

# Images that were looked for: whether one is up to date takes a tenth of a second to say.
const SOUGHT = Set{Base.PkgId}()

"""
Load the image of a sub-library, if there is one of its present version: what is not in it, or out
of date, is compiled when it is first needed, as ever.
"""
function load_image(library::Base.PkgId)
    folder, id = images_folder(), image_id(library)
    id in SOUGHT && return nothing
    push!(SOUGHT, id)
    isdir(joinpath(folder, id.name)) || return nothing
    folder in LOAD_PATH || push!(LOAD_PATH, folder)
    Base.isprecompiled(id) && Base.require(id)
    return nothing
end
