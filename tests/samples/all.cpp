#include "support/sample.h"

namespace weft::test {

void affine_samples(SampleList& list);
void attention_samples(SampleList& list);
void conv_samples(SampleList& list);
void copy_samples(SampleList& list);
void create_samples(SampleList& list);
void elementwise_samples(SampleList& list);
void einops_samples(SampleList& list);
void einsum_samples(SampleList& list);
void fft_samples(SampleList& list);
void glu_samples(SampleList& list);
void index_samples(SampleList& list);
void loss_samples(SampleList& list);
void matmul_samples(SampleList& list);
void norm_samples(SampleList& list);
void optim_samples(SampleList& list);
void random_samples(SampleList& list);
void reduce_samples(SampleList& list);
void rotary_samples(SampleList& list);
void scan_samples(SampleList& list);
void shape_samples(SampleList& list);
void softmax_samples(SampleList& list);
void sort_samples(SampleList& list);

const SampleList& all_samples() {
  static const SampleList list = [] {
    const DefaultDevice host(Device::cpu());  // the walk moves inputs to where it runs
    SampleList l;
    affine_samples(l);
    attention_samples(l);
    conv_samples(l);
    copy_samples(l);
    create_samples(l);
    elementwise_samples(l);
    einops_samples(l);
    einsum_samples(l);
    fft_samples(l);
    glu_samples(l);
    index_samples(l);
    loss_samples(l);
    matmul_samples(l);
    norm_samples(l);
    optim_samples(l);
    random_samples(l);
    reduce_samples(l);
    rotary_samples(l);
    scan_samples(l);
    shape_samples(l);
    softmax_samples(l);
    sort_samples(l);
    return l;
  }();
  return list;
}

}  // namespace weft::test
