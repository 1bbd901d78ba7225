# The GPU: where LuxCUDA is loaded, "gpu" is a device.

module PyNODELuxCUDAExt

using LuxCUDA: CUDA
using PyNODE: PyNODE

function __init__()
    CUDA.functional() && (PyNODE.DEVICES["gpu"] = CUDA.CuArray)
    return nothing
end

end
