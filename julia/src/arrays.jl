# Python's arrays, by address.

# By NumPy's names.
const ELEMENTS = Dict{String, DataType}(
    (lowercase(string(T)) => T for T in (Bool, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32,
        UInt64, Float16, Float32, Float64))...,
    "complex64" => ComplexF32, "complex128" => ComplexF64)

"""
    ArrayAt(address, element, lengths...)

The array at `address` with Julia's `lengths` (Python's shape, reversed), seen without a copy. The
caller keeps the memory alive and C-contiguous while it is used.
"""
function ArrayAt(address::Integer, element::AbstractString, lengths::Integer...)
    T = ELEMENTS[element]
    any(iszero, lengths) && return Array{T}(undef, lengths...)
    return unsafe_wrap(Array, Ptr{T}(UInt(address)), Int.(lengths))
end

# Owners of memory that Julia's arrays look at. (In the finalizer that drops it an owner would not be
# safe: what only a finalizer refers to is itself finalized.)
const OWNERS = Dict{UInt, Any}()
const OWNERS_LOCK = ReentrantLock()

"""
    owned(array, owner)

`array`, an `ArrayAt`, which keeps `owner` alive as long as its memory can be reached from Julia.
"""
function owned(array::Array, owner)
    # From Julia 1.11 on arrays share a Memory, which outlives each of them.
    memory = isdefined(Base, :Memory) ? getfield(array, :ref).mem : array
    @lock OWNERS_LOCK OWNERS[objectid(memory)] = owner
    finalizer(disown, memory)
    return array
end

"""Let the owner of `memory` go: a finalizer, which may not wait for a lock but can come again."""
function disown(memory)
    trylock(OWNERS_LOCK) || return finalizer(disown, memory)
    try
        delete!(OWNERS, objectid(memory))
    finally
        unlock(OWNERS_LOCK)
    end
    return nothing
end

"""`array` with its axes in reverse order, the same memory: Python's indices, counted from 1."""
reversed(array::Array) = PermutedDimsArray(array, ntuple(i -> ndims(array) + 1 - i, ndims(array)))

"""
    shared(owner, by_columns, place...)

The `ArrayAt(place...)` that keeps `owner` alive, with the axes in Python's order unless memory is
`by_columns`. One call, since each between the languages takes microseconds.
"""
function shared(owner, by_columns::Bool, place...)
    array = owned(ArrayAt(place...), owner)
    return by_columns ? array : reversed(array)
end
