#include "text/vocabulary.hpp"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

#include "text/markers.hpp"

namespace gemlet {
namespace {

constexpr std::uint64_t no_pair = ~std::uint64_t{0};

[[noreturn]] void fail(const GgufFile& file, std::string_view key, const std::string& what) {
  throw Error(Error::Kind::format, file.path().string() + ": " + std::string(key) + " " + what);
}

void expect_length(const GgufFile& file, std::string_view key, std::size_t found, std::size_t tokens) {
  if (found != tokens) {
    fail(file, key,
         "has " + std::to_string(found) + " entries, expected one for each of the " + std::to_string(tokens) +
             " tokens");
  }
}

/// "<0x41>" to 0x41.
std::optional<unsigned char> parse_byte_piece(std::string_view piece) {
  unsigned char value = 0;
  if (piece.size() != 6 || !piece.starts_with("<0x") || !piece.ends_with('>')) {
    return std::nullopt;
  }
  const char* end = piece.data() + 5;
  const auto [stop, error] = std::from_chars(piece.data() + 3, end, value, 16);
  return error == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

std::size_t table_size(std::size_t entries) { return std::bit_ceil(2 * entries + 1); }

std::uint64_t pair_key(Token left, Token right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

std::size_t pair_slot(std::uint64_t pair, std::size_t slots) {
  // Fibonacci hashing; the high bits are the well-mixed ones.
  return static_cast<std::size_t>((pair * 0x9E3779B97F4A7C15ULL) >> 32) & (slots - 1);
}

bool is_text(TokenKind kind) {
  return kind == TokenKind::normal || kind == TokenKind::user_defined || kind == TokenKind::unused;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  result.reserve(text.size());
  for (std::size_t begin = 0;;) {
    const std::size_t found = text.find(from, begin);
    result += text.substr(begin, found - begin);
    if (found == std::string_view::npos) {
      return result;
    }
    result += to;
    begin = found + from.size();
  }
}

}  // namespace

std::string escape_spaces(std::string_view text) { return replace_all(text, " ", space_symbol); }

std::string unescape_spaces(std::string_view text) { return replace_all(text, space_symbol, " "); }

template <typename Wanted>
PieceMatcher Vocabulary::match_tokens(Wanted wanted) const {
  std::vector<std::pair<std::string, Token>> pieces;
  for (Token token = 0; token < size(); ++token) {
    if (wanted(token)) {
      pieces.emplace_back(by_score_ ? escape_spaces(piece(token)) : std::string(piece(token)), token);
    }
  }
  return PieceMatcher(std::move(pieces));
}

Vocabulary::Vocabulary(const GgufFile& file) {
  constexpr std::string_view key = "tokenizer.ggml.model";
  const std::string_view model = file.get_string(key);
  if (model != "llama" && model != "gemma4") {
    throw Error(Error::Kind::unsupported, file.path().string() + ": " + std::string(key) + " is \"" +
                                              std::string(model) + "\", expected \"llama\" or \"gemma4\"");
  }
  // Ollama writes Gemma 4's vocabulary, whose scores are all the same, as the llama kind.
  by_score_ = model == "llama" && file.find_string("tokenizer.ggml.pre", "") != "gemma4";
  // llama.cpp takes a prefix for granted where the file says nothing. No model of the Gemma family has one.
  space_prefix_ = by_score_ && file.find_bool("tokenizer.ggml.add_space_prefix", false);
  read_pieces(file);
  read_kinds(file);
  index_pieces();
  by_score_ ? read_scores(file) : read_merges(file);
  read_special_ids(file);
  user_defined_ = match_tokens([&](Token token) { return kind(token) == TokenKind::user_defined; });
  special_ = match_tokens(
      [&](Token token) { return kind(token) == TokenKind::user_defined || kind(token) == TokenKind::control; });
  guarded_ = match_tokens([&](Token token) { return is_guarded(piece(token), kind(token)); });
}

void Vocabulary::read_pieces(const GgufFile& file) {
  constexpr std::string_view key = "tokenizer.ggml.tokens";
  const GgufStrings& tokens = file.get_strings(key);
  if (tokens.empty() || tokens.size() > std::numeric_limits<Token>::max()) {
    fail(file, key, "has " + std::to_string(tokens.size()) + " entries, expected 1 to 2147483647");
  }
  pieces_.reserve(std::accumulate(tokens.begin(), tokens.end(), std::size_t{0},
                                  [](std::size_t sum, std::string_view piece) { return sum + piece.size(); }));
  ends_.reserve(tokens.size());
  for (const std::string_view piece : tokens) {
    pieces_ += piece;
    ends_.push_back(pieces_.size());
    longest_piece_ = std::max(longest_piece_, escape_spaces(piece).size());
  }
}

void Vocabulary::read_kinds(const GgufFile& file) {
  constexpr std::string_view key = "tokenizer.ggml.token_type";
  byte_tokens_.fill(no_token);
  kinds_.assign(ends_.size(), TokenKind::normal);
  if (file.contains(key)) {
    const std::vector<std::int64_t>& types = file.get_integers(key);
    expect_length(file, key, types.size(), kinds_.size());
    // GGUF numbers the types from 1, in the order of TokenKind.
    constexpr std::int64_t byte_type = static_cast<std::int64_t>(TokenKind::byte) + 1;
    for (std::size_t i = 0; i < kinds_.size(); ++i) {
      if (types[i] < 1 || types[i] > byte_type) {
        fail(file, key, "has " + std::to_string(types[i]) + " for token " + std::to_string(i) + ", expected 1 to 6");
      }
      kinds_[i] = static_cast<TokenKind>(types[i] - 1);
    }
  }
  infer_byte_kinds();
  for (std::size_t i = 0; i < kinds_.size(); ++i) {
    const auto token = static_cast<Token>(i);
    if (kinds_[i] == TokenKind::byte) {
      const auto byte = parse_byte_piece(piece(token));
      if (!byte) {
        fail(file, key,
             "makes token " + std::to_string(i) + " a byte, but its piece is \"" + std::string(piece(token)) +
                 "\", expected \"<0x00>\" to \"<0xFF>\"");
      }
      byte_tokens_[*byte] = token;
    } else if (piece(token) == "<unk>" && kinds_[i] == TokenKind::normal) {
      kinds_[i] = TokenKind::unknown;
    } else {
      kinds_[i] = corrected_kind(piece(token), kinds_[i]);
    }
    if (kinds_[i] == TokenKind::unknown && unknown_ == no_token) {
      unknown_ = token;
    }
  }
}

/// A file that types no token as a byte but has a piece for each means those.
void Vocabulary::infer_byte_kinds() {
  if (std::ranges::find(kinds_, TokenKind::byte) != kinds_.end()) {
    return;
  }
  std::array<Token, 256> found;
  found.fill(no_token);
  for (Token token = 0; token < size(); ++token) {
    if (const auto byte = parse_byte_piece(piece(token)); byte && is_text(kind(token)) && found[*byte] == no_token) {
      found[*byte] = token;
    }
  }
  if (std::ranges::find(found, no_token) != found.end()) {
    return;
  }
  for (const Token token : found) {
    kinds_[static_cast<std::size_t>(token)] = TokenKind::byte;
  }
}

void Vocabulary::index_pieces() {
  index_.assign(table_size(ends_.size()), no_token);
  for (const bool text : {true, false}) {
    for (Token token = 0; token < size(); ++token) {
      if (is_text(kind(token)) != text) {
        continue;
      }
      const std::string escaped = escape_spaces(piece(token));
      std::size_t slot = std::hash<std::string_view>{}(escaped) & (index_.size() - 1);
      while (index_[slot] != no_token && escape_spaces(piece(index_[slot])) != escaped) {
        slot = (slot + 1) & (index_.size() - 1);
      }
      if (index_[slot] == no_token) {
        index_[slot] = token;
      }
    }
  }
}

void Vocabulary::read_scores(const GgufFile& file) {
  constexpr std::string_view key = "tokenizer.ggml.scores";
  const std::vector<double>& scores = file.get_numbers(key);
  expect_length(file, key, scores.size(), kinds_.size());
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i])) {
      fail(file, key, "is NaN for token " + std::to_string(i));
    }
  }
  std::vector<std::uint32_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) { return scores[a] > scores[b]; });
  score_ranks_.resize(scores.size());
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && scores[order[i]] != scores[order[i - 1]]) {
      ++rank;  // equal scores share a rank: then the leftmost pair goes first
    }
    score_ranks_[order[i]] = rank;
  }
}

void Vocabulary::read_merges(const GgufFile& file) {
  constexpr std::string_view key = "tokenizer.ggml.merges";
  const GgufStrings& merges = file.get_strings(key);
  if (merges.size() > std::numeric_limits<std::uint32_t>::max()) {
    fail(file, key, "has " + std::to_string(merges.size()) + " entries, expected at most 4294967295");
  }
  rules_.assign(table_size(merges.size()), {no_pair, {0, no_token}});
  for (std::size_t i = 0; i < merges.size(); ++i) {
    const auto reject = [&](const std::string& why) {
      fail(file, key, "entry " + std::to_string(i) + ", \"" + std::string(merges[i]) + "\": " + why);
    };
    const auto find_part = [&](std::string_view part) {
      const auto token = find(part);
      if (!token) {
        reject("\"" + std::string(part) + "\" is not a token");
      }
      return *token;
    };
    const std::size_t space = merges[i].find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == merges[i].size() ||
        merges[i].find(' ', space + 1) != std::string_view::npos) {
      reject("expected two pieces with a space between them");
    }
    const std::string_view left = merges[i].substr(0, space);
    const std::string_view right = merges[i].substr(space + 1);
    const Token tokens[] = {find_part(left), find_part(right), find_part(std::string(left) + std::string(right))};
    if (!std::all_of(std::begin(tokens), std::end(tokens), [&](Token token) { return is_text(kind(token)); })) {
      continue;  // plain text never becomes a control token
    }
    const std::uint64_t pair = pair_key(tokens[0], tokens[1]);
    std::size_t slot = pair_slot(pair, rules_.size());
    while (rules_[slot].pair != no_pair && rules_[slot].pair != pair) {
      slot = (slot + 1) & (rules_.size() - 1);
    }
    rules_[slot] = {pair, {static_cast<std::uint32_t>(i), tokens[2]}};
  }
}

void Vocabulary::read_special_ids(const GgufFile& file) {
  const auto check = [&](std::string_view key, std::int64_t id) {
    if (id < 0 || id >= size()) {
      fail(file, key, "is " + std::to_string(id) + ", expected less than the " + std::to_string(size()) + " tokens");
    }
    return static_cast<Token>(id);
  };
  const auto read = [&](std::string_view key) { return check(key, file.get_u32(key)); };
  constexpr std::string_view bos_key = "tokenizer.ggml.bos_token_id";
  const auto named_bos = find("<bos>");
  bos_ = file.contains(bos_key) || !named_bos ? read(bos_key) : *named_bos;
  if (constexpr std::string_view key = "tokenizer.ggml.unknown_token_id"; file.contains(key)) {
    unknown_ = read(key);
  }
  for (const std::string_view key :
       {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    if (file.contains(key)) {
      ends_of_text_.push_back(read(key));
    }
  }
  if (constexpr std::string_view key = "tokenizer.ggml.eos_token_ids"; file.contains(key)) {  // Ollama's
    for (const std::int64_t id : file.get_integers(key)) {
      ends_of_text_.push_back(check(key, id));
    }
  }
  // Converters leave out keys: every token by which a model of the family ends a turn ends it.
  for (Token token = 0; token < size(); ++token) {
    const Marker* marker = find_marker(piece(token));
    if (marker != nullptr && marker->ends_answer) {
      ends_of_text_.push_back(token);
    }
  }
}

std::string_view Vocabulary::piece(Token token) const {
  const auto i = static_cast<std::size_t>(token);
  const std::size_t begin = i == 0 ? 0 : ends_[i - 1];
  return std::string_view(pieces_).substr(begin, ends_[i] - begin);
}

unsigned char Vocabulary::byte_value(Token token) const { return parse_byte_piece(piece(token)).value(); }

Token Vocabulary::lookup(std::string_view piece) const {
  std::size_t slot = std::hash<std::string_view>{}(piece) & (index_.size() - 1);
  for (; index_[slot] != no_token; slot = (slot + 1) & (index_.size() - 1)) {
    const std::string_view candidate = this->piece(index_[slot]);
    if (candidate == piece || (candidate.find(' ') != std::string_view::npos && escape_spaces(candidate) == piece)) {
      return index_[slot];
    }
  }
  return no_token;
}

std::optional<Token> Vocabulary::find(std::string_view piece) const {
  const Token token = lookup(escape_spaces(piece));
  return token == no_token ? std::nullopt : std::optional(token);
}

Token Vocabulary::find_text(std::string_view piece) const {
  if (piece.size() > longest_piece_) {
    return no_token;
  }
  const Token token = piece == " " ? lookup(space_symbol) : lookup(piece);
  return token != no_token && is_text(kind(token)) ? token : no_token;
}

Vocabulary::Merge Vocabulary::find_merge(Token left, Token right) const {
  const std::uint64_t pair = pair_key(left, right);
  std::size_t slot = pair_slot(pair, rules_.size());
  while (rules_[slot].pair != no_pair && rules_[slot].pair != pair) {
    slot = (slot + 1) & (rules_.size() - 1);
  }
  return rules_[slot].merge;
}

std::size_t Vocabulary::fewest_tokens(std::size_t bytes) const {
  // Without byte tokens one unknown token stands for any number of characters.
  if (std::ranges::find(byte_tokens_, no_token) != byte_tokens_.end()) return bytes > 0 ? 1 : 0;
  return (bytes + longest_piece_ - 1) / longest_piece_;
}

bool Vocabulary::is_end(Token token) const {
  return std::find(ends_of_text_.begin(), ends_of_text_.end(), token) != ends_of_text_.end();
}

}  // namespace gemlet
