#include "support/sample.h"

namespace weft::test {

void attention_samples(SampleList& list);
void matmul_samples(SampleList& list);

const SampleList& all_samples() {
  static const SampleList list = [] {
    SampleList l;
    attention_samples(l);
    matmul_samples(l);
    return l;
  }();
  return list;
}

}  // namespace weft::test
