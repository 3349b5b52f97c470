// DEVICE=cuda runs the whole suite with that default device.
#define DOCTEST_CONFIG_IMPLEMENT
#include <weft/tensor/storage.h>

#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>

int main(int argc, char** argv) {
  try {
    const char* device = std::getenv("DEVICE");
    if (device && *device) weft::set_default_device(weft::device_from_name(device));
  } catch (const weft::Error& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 2;
  }
  return doctest::Context(argc, argv).run();
}
