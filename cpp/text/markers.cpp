#include "text/markers.hpp"

#include <algorithm>
#include <array>

namespace gemlet {
namespace {

constexpr TokenKind control = TokenKind::control;
constexpr TokenKind shown = TokenKind::user_defined;

constexpr auto markers = std::to_array<Marker>({
    {"<pad>", control},
    {"<bos>", control},
    {"<eos>", control, true},
    // Turns and pictures of Gemma 1 to 3n.
    {"<start_of_turn>", control},
    {"<end_of_turn>", control, true},
    {"<start_of_image>", shown},
    {"<end_of_image>", shown},
    {"<image_soft_token>", control},
    // FunctionGemma's calls of tools. The model asks for a tool's answer by beginning it.
    {"<start_function_declaration>", shown},
    {"<end_function_declaration>", shown},
    {"<start_function_call>", shown},
    {"<end_function_call>", shown},
    {"<start_function_response>", shown, true},
    {"<end_function_response>", shown},
    {"<escape>", shown},
    // Gemma 4.
    {"<|turn>", control},
    {"<turn|>", control, true},
    {"<|think|>", control},
    {"<|channel>", shown},
    {"<channel|>", shown},
    {"<|tool>", control},
    {"<tool|>", control},
    {"<|tool_call>", shown},
    {"<tool_call|>", shown},
    {"<|tool_response>", shown, true},
    {"<tool_response|>", shown},
    {"<|\"|>", shown},
    {"<|image>", control},
    {"<|image|>", control},
    {"<image|>", control},
    {"<|audio>", control},
    {"<|audio|>", control},
    {"<audio|>", control},
    {"<|video|>", control},
});

}  // namespace

const Marker* find_marker(std::string_view piece) {
  if (!piece.starts_with('<')) return nullptr;
  const auto* found = std::ranges::find(markers, piece, &Marker::piece);
  return found == markers.end() ? nullptr : found;
}

TokenKind corrected_kind(std::string_view piece, TokenKind stored) {
  const Marker* marker = find_marker(piece);
  const bool ordinary = stored == TokenKind::normal || stored == TokenKind::unused;
  return marker != nullptr && ordinary ? marker->kind : stored;
}

bool is_guarded(std::string_view piece, TokenKind kind) {
  return kind == TokenKind::control || kind == TokenKind::unknown || find_marker(piece) != nullptr;
}

}  // namespace gemlet
