#include <weft/cuda/attention_forward.cuh>

template void weft::cuda::attention::launch_forward<weft::BFloat16>(const weft::cuda::attention::Problem&);
