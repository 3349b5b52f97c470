#include <weft/cuda/attention_bias.cuh>

template void weft::cuda::attention::launch_bias<weft::Float16>(const weft::cuda::attention::Problem&, weft::Tensor&);
