"""Images in a grid, one row per prompt, with the prompt's text."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

SIDE, GAP, TEXT_WIDTH = 128, 6, 200
INK, PAPER, FAINT = (30, 30, 30), (255, 255, 255), (120, 120, 120)


def contact_sheet(
    rows: Sequence[tuple[str, Sequence[Image.Image]]], columns: Sequence[str] = (), side: int = SIDE
) -> Image.Image:
    """Draw one row per text, with its images side by side, ``side`` pixels wide. ``columns`` are their titles."""
    count = max(len(images) for _, images in rows)
    font, small = ImageFont.load_default(13), ImageFont.load_default(11)
    top = 20 if columns else 0
    width, height = TEXT_WIDTH + count * (side + GAP) + GAP, top + len(rows) * (side + GAP) + GAP
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(columns):
        left = TEXT_WIDTH + GAP + column * (side + GAP)
        draw.text((left + side / 2, 4), fitting(title, small, side), font=small, fill=FAINT, anchor="ma")
    for row, (text, images) in enumerate(rows):
        upper = top + GAP + row * (side + GAP)
        lines = "\n".join(wrapped(text, font, TEXT_WIDTH - 2 * GAP)[: side // 17])
        draw.multiline_text((GAP, upper + side / 2), lines, font=font, fill=INK, anchor="lm", spacing=3)
        for column, image in enumerate(images):
            scaled = image.convert("RGB").resize((side, side), scaling(image, side))
            sheet.paste(scaled, (TEXT_WIDTH + GAP + column * (side + GAP), upper))
    return sheet


def scaling(image: Image.Image, side: int) -> Image.Resampling:
    """Choose the filter: enlarged images keep sharp pixels."""
    return Image.Resampling.NEAREST if image.width < side else Image.Resampling.LANCZOS


def wrapped(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Break the text into lines of at most ``width`` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def fitting(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, width: int) -> str:
    """Cut the text to ``width`` pixels, with an ellipsis."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
