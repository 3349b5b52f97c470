// GPT-2's split of a text into the pieces that byte-pair merges stay within.
#pragma once

#include <functional>
#include <string_view>

namespace weft::data {

/// Calls f with each piece of text in order; together they are the text. A piece is what GPT-2's pattern matches first:
///
///   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
///
/// A byte that is not part of valid UTF-8 counts as a character that is no letter, number or space.
void pre_tokenize(std::string_view text, const std::function<void(std::string_view piece)>& f);

}  // namespace weft::data
