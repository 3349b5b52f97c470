#include <weft/cuda/attention_backward.cuh>

template void weft::cuda::attention::launch_backward<weft::BFloat16>(const weft::cuda::attention::Problem&,
                                                                     const float*);
