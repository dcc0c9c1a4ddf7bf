"""Hand-written templates for ensembles of class texts.

The wordings are CLIP's (Radford et al., ICML 2021; its ImageNet notebook).
"""

SEVEN = tuple(
    text + "."
    for text in (
        "itap of a {}",
        "a bad photo of the {}",
        "a origami {}",
        "a photo of the large {}",
        "a {} in a video game",
        "art of the {}",
        "a photo of the small {}",
    )
)

# The 60 of CLIP's 80 that PromptSRC averages over (Khattak et al., ICCV 2023).
SIXTY = tuple(
    text + "."
    for text in (
        "a photo of a {}",
        "a photo of the {}",
        "a photo of many {}",
        "a photo of my {}",
        "a photo of one {}",
        "a photo of a clean {}",
        "a photo of the clean {}",
        "a photo of a dirty {}",
        "a photo of the dirty {}",
        "a photo of the cool {}",
        "a photo of a large {}",
        "a photo of a nice {}",
        "a photo of a weird {}",
        "a photo of a hard to see {}",
        "a photo of the hard to see {}",
        "a good photo of the {}",
        "a bad photo of a {}",
        "a bad photo of the {}",
        "a bright photo of a {}",
        "a bright photo of the {}",
        "a dark photo of the {}",
        "a cropped photo of a {}",
        "a cropped photo of the {}",
        "a close-up photo of a {}",
        "a close-up photo of the {}",
        "a blurry photo of a {}",
        "a blurry photo of the {}",
        "a pixelated photo of a {}",
        "a pixelated photo of the {}",
        "a low resolution photo of a {}",
        "a low resolution photo of the {}",
        "a black and white photo of the {}",
        "a jpeg corrupted photo of a {}",
        "itap of the {}",
        "a painting of a {}",
        "a painting of the {}",
        "a drawing of a {}",
        "a sketch of a {}",
        "a sketch of the {}",
        "a doodle of a {}",
        "a doodle of the {}",
        "a cartoon {}",
        "art of a {}",
        "graffiti of a {}",
        "a tattoo of a {}",
        "a sculpture of a {}",
        "a sculpture of the {}",
        "a rendering of a {}",
        "a rendering of the {}",
        "a rendition of a {}",
        "a rendition of the {}",
        "a {} in a video game",
        "the {} in a video game",
        "the toy {}",
        "a plastic {}",
        "the plastic {}",
        "a origami {}",
        "the origami {}",
        "a embroidered {}",
        "the embroidered {}",
    )
)

# All 80 of CLIP's ImageNet notebook.
EIGHTY = SIXTY + tuple(
    text + "."
    for text in (
        "a jpeg corrupted photo of the {}",
        "a good photo of a {}",
        "a plushie {}",
        "a photo of the nice {}",
        "a photo of the small {}",
        "a photo of the weird {}",
        "the cartoon {}",
        "art of the {}",
        "a drawing of the {}",
        "a photo of the large {}",
        "a black and white photo of a {}",
        "the plushie {}",
        "a dark photo of a {}",
        "itap of a {}",
        "graffiti of the {}",
        "a toy {}",
        "itap of my {}",
        "a photo of a cool {}",
        "a photo of a small {}",
        "a tattoo of the {}",
    )
)
