#pragma once

#include <weft/tensor/error.h>

#include <string>

namespace weft::test {

/// What the Error that f throws says; "" where it throws none.
template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace weft::test
