#include "support/sample.h"

namespace weft::test {

void matmul_samples(SampleList& list);

const SampleList& all_samples() {
  static const SampleList list = [] {
    SampleList l;
    matmul_samples(l);
    return l;
  }();
  return list;
}

}  // namespace weft::test
