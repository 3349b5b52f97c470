// DEVICE=cuda runs the whole suite with that default device.
#define DOCTEST_CONFIG_IMPLEMENT
#include "support/walker.h"

#include <doctest/doctest.h>

#include <cstdio>

int main(int argc, char** argv) {
  try {
    weft::set_default_device(weft::test::test_device());
  } catch (const weft::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
  return doctest::Context(argc, argv).run();
}
