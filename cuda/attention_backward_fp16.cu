#include <weft/cuda/attention_backward.cuh>

template void weft::cuda::attention::launch_backward<weft::Float16>(const weft::cuda::attention::Problem&,
                                                                    const float*);
