"""
    Tableau(a, b, c)

An explicit Runge-Kutta tableau, cut to the stages that the solution needs. `a` as Python's rows:
Julia's columns.
"""
struct Tableau
    a::Matrix{Float64}
    b::Vector{Float64}
    c::Vector{Float64}

    function Tableau(rows::AbstractMatrix, b::AbstractVector, c::AbstractVector)
        s = something(findlast(!iszero, b), 1)
        a = permutedims(rows)[1:s, 1:s]
        all(iszero(a[i, j]) for i in 1:s for j in i:s) || throw(ArgumentError(
            "a: allowed is a strictly lower triangular matrix (explicit stages)."))
        return new(a, b[1:s], c[1:s])
    end
end

stages(tableau::Tableau) = length(tableau.b)
