"""
    Tableau(a, b, c)

A Runge-Kutta tableau, explicit or diagonally implicit, cut to the stages that the solution needs.
`a` as Python's rows: Julia's columns.
"""
struct Tableau
    a::Matrix{Float64}
    b::Vector{Float64}
    c::Vector{Float64}

    function Tableau(rows::AbstractMatrix, b::AbstractVector, c::AbstractVector)
        s = something(findlast(!iszero, b), 1)
        a = permutedims(rows)[1:s, 1:s]
        istril(a) || throw(ArgumentError(
            "a: expected a lower triangular matrix (explicit or diagonally implicit stages)."))
        return new(a, b[1:s], c[1:s])
    end
end

stages(tableau::Tableau) = length(tableau.b)
implicit(tableau::Tableau, stage) = !iszero(tableau.a[stage, stage])
implicit(tableau::Tableau) = any(stage -> implicit(tableau, stage), 1:stages(tableau))
