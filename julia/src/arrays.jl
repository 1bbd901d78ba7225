# Python's arrays, by address. The caller keeps them alive and C-contiguous during the call.

const ELEMENTS = Dict("float32" => Float32, "float64" => Float64, "int32" => Int32)

"""
    ArrayAt(address, element, lengths...)

The array at `address` with Julia's `lengths` (Python's shape, reversed), seen without a copy.
"""
function ArrayAt(address::Integer, element::AbstractString, lengths::Integer...)
    T = ELEMENTS[element]
    any(iszero, lengths) && return Array{T}(undef, lengths...)
    return unsafe_wrap(Array, Ptr{T}(UInt(address)), Int.(lengths))
end
