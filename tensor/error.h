// Errors: every failure the library can report is an exception derived from weft::Error.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace weft {

/// Base of every exception the library throws. what() names the operation, what it wanted and what it got.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A device could not provide the memory asked for. Nothing is lost: free something and try again.
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

/// A device refused or failed what it was asked for.
class DeviceError : public Error {
 public:
  using Error::Error;
};

/// Appends a value to a message; add an overload next to a type to make it printable in errors.
inline void put(std::string& s, std::string_view v) { s += v; }
inline void put(std::string& s, const char* v) { s += v; }
inline void put(std::string& s, const std::string& v) { s += v; }
inline void put(std::string& s, char v) { s += v; }
inline void put(std::string& s, bool v) { s += v ? "true" : "false"; }
void put(std::string& s, double v);  ///< shortest form that reads back as the same number
inline void put(std::string& s, float v) { put(s, static_cast<double>(v)); }
template <class T>
requires std::is_integral_v<T>
void put(std::string& s, T v) { s += std::to_string(v); }

/// All arguments printed one after the other.
template <class... Args>
std::string concat(const Args&... args) {
  std::string s;
  (put(s, args), ...);
  return s;
}

template <class... Args>
[[noreturn]] void fail(const Args&... args) {
  throw Error(concat(args...));
}

/// Throws weft::Error with the arguments as message unless ok; the message is built only on failure.
template <class... Args>
void check(bool ok, const Args&... args) {
  if (!ok) [[unlikely]]
    fail(args...);
}

}  // namespace weft
