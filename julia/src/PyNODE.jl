"""
Neural ODEs on OrdinaryDiffEq's solvers, as pynode_jl asks for them.

Arrays come as a Python program lays them out, `(batch, features...)` row by row, which is Julia's
`(reverse(features)..., batch)` column by column: the same memory, not copied. Inside, a batch of
states is one vector, `size * batch` long.
"""
module PyNODE

using LinearAlgebra: LinearAlgebra, dot, ishermitian, istril, mul!, opnorm
using PrecompileTools: @compile_workload, @setup_workload
using SciMLBase: SciMLBase, ODEFunction, ODEProblem
using SciMLLogging: SciMLLogging
using SpecialFunctions: erf
using TOML: TOML

# Every other sub-library is loaded when one of its solvers is first asked for.
using OrdinaryDiffEqLowOrderRK: OrdinaryDiffEqLowOrderRK, Euler
using OrdinaryDiffEqTsit5: OrdinaryDiffEqTsit5, Tsit5

include("optional.jl")
include("arrays.jl")
include("blocks.jl")
include("activations.jl")
include("layers.jl")
include("network.jl")
include("fields.jl")
include("flows.jl")
include("algorithms.jl")
include("solve.jl")
include("tableaus.jl")
include("discrete.jl")
include("paths.jl")
include("kept.jl")
include("objectives.jl")
include("training.jl")
include("images.jl")
include("precompile.jl")

end
