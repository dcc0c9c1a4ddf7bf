"""Artists and classes of the suite's data sets.

A class is a category, or several, that the artists themselves gave their drawings; only its name is
ours. Categories that say what an icon is for ("Actions", "Other") and not what it shows are left
out.
"""

import functools
from dataclasses import dataclass

from tools.suite.subgroups import CLASSES


@dataclass(frozen=True)
class Source:
    """A data set of the suite.

    artists: {Iconify set: licence}; styles: endings of the icons' names that are taken, "" for all;
    left_out: endings that are not;
    classes: {class: categories, "artist/category" where several artists have a category};
    several: what an icon in several classes is: "first", or "none".
    """

    artists: dict[str, str]
    classes: dict[str, str]
    styles: tuple[str, ...] = ("",)
    left_out: tuple[str, ...] = ()
    several: str = "first"
    most: int = 150  # pictures of a class


MATERIAL = Source(
    {"mdi": "Apache-2.0"},
    {
        "home automation": "Home Automation",
        "file or folder": "Files / Folders",
        "letter or number": "Alpha / Numeric",
        "brand logo": "Brand / Logo",
        "arrow": "Arrow",
        "clock or calendar": "Date / Time",
        "money or bank": "Banking, Currency",
        "user account": "Account / User",
        "text formatting": "Text / Content / Format",
        "game": "Gaming / RPG",
        "alert": "Alert / Error",
        "food or drink": "Food / Drink",
        "car part": "Automotive",
        "farming": "Agriculture",
        "phone": "Cellphone / Phone",
        "mathematics": "Math",
        "sport": "Sport",
        "settings": "Settings",
        "database": "Database",
        "map tool": "Geographic Information System",
        "sound": "Audio",
        "music": "Music",
        "geometric shape": "Shape, Vector",
        "video": "Video / Movie",
        "lock": "Lock",
        "photography": "Photography",
        "battery": "Battery",
        "medicine": "Medical / Hospital",
        "cloud": "Cloud",
        "form": "Form",
        "person": "People / Family",
        "science": "Science",
        "programming": "Developer / Languages",
        "tool": "Hardware / Tools",
        "place": "Places",
        "vehicle": "Transportation + Other, Transportation + Flying, Transportation + Water",
        "road": "Transportation + Road",
        "electronic device": "Device / Tech",
        "animal": "Animal",
        "weather": "Weather",
        "nature": "Nature",
        "shopping": "Shopping",
        "holiday": "Holiday",
        "printer": "Printer",
        "clothing": "Clothing",
        "face": "Emoji",
    },
    several="none",
)
REMIX = Source(
    {"ri": "Apache-2.0"},
    {
        "control": "System",
        "camera or music player": "Media",
        "brand logo": "Logos",
        "document": "Document",
        "design tool": "Design",
        "business": "Business",
        "electronic device": "Device",
        "arrow": "Arrows",
        "money": "Finance",
        "map or transport": "Map",
        "text formatting": "Editor",
        "person or face": "User & Faces",
        "chat message": "Communication",
        "medicine": "Health & Medical",
        "weather": "Weather",
        "programming": "Development",
        "building": "Buildings",
        "game or sport": "Game & Sports",
    },
)
ICONPARK = Source(
    {"icon-park": "Apache-2.0", "icon-park-solid": "Apache-2.0"},
    {
        "text formatting": "Edit",
        "computer hardware": "Hardware",
        "office supplies": "Office",
        "arrow": "Arrows",
        "abstract sign": "Abstract",
        "food or drink": "Foods",
        "vehicle or travel": "Travel",
        "sport": "Sports",
        "brand logo": "Brand",
        "money": "Money",
        "clothing": "Clothes",
        "building": "Build",
        "health": "Health",
        "chart": "Charts",
        "hand gesture": "Hands",
        "music": "Music",
        "network connection": "Connect",
        "person": "Peoples",
        "baby product": "Baby",
        "cosmetics": "Makeups",
        "face": "Emoji",
        "animal": "Animals",
        "game": "Game",
        "letter or sign": "Character",
        "nature or energy": "Energy",
        "chat message": "Communicate",
        "industry": "Industry",
        "household object": "Life",
        "database": "Datas",
        "weather or time": "Weather, Time",
        "shape": "Graphics, Base",
        "lock or shield": "Safe",
    },
)
SOLAR = Source(
    {"solar": "CC BY 4.0"},
    {
        "control": "UI",
        "video or sound": "Video",
        "electronic device": "Devices",
        "arrow": "Arrows, Arrows Action",
        "chat message": "Messages",
        "computer or software": "IT",
        "lock or shield": "Security",
        "sport": "Sports",
        "file": "Files",
        "folder": "Folders",
        "map": "Map",
        "list": "List",
        "text formatting": "Text Formatting",
        "weather": "Weather",
        "home": "Home",
        "money": "Money",
        "school": "School",
        "settings": "Settings",
        "medicine": "Medicine",
        "astronomy": "Astronomy",
        "tool": "Tools",
        "note": "Notes",
        "business chart": "Business",
        "shopping": "Shopping",
        "clock or calendar": "Time",
        "person": "Users",
        "face": "Faces",
        "search": "Search",
        "phone call": "Call",
        "food": "Food",
        "plant": "Nature",
    },
    ("-linear", "-bold", "-bold-duotone"),
)
STREAMLINE = Source(
    {
        "streamline": "CC BY 4.0",
        "streamline-flex": "CC BY 4.0",
        "streamline-plump": "CC BY 4.0",
        "streamline-sharp": "CC BY 4.0",
    },
    {
        "control": "InterfaceEssential",
        "computer": "ComputerDevices",
        "money or shopping": "MoneyShopping",
        "map or travel": "MapTravel",
        "entertainment": "Entertainment",
        "programming": "Programming",
        "mail": "Mail",
        "health": "Health",
        "nature": "NatureEcology",
        "food or drink": "FoodDrink",
        "culture": "Culture",
        "phone": "Phone",
        "photography": "ImagesPhotography",
        "artificial intelligence": "ArtificialIntelligence",
        "delivery": "Shipping",
        "school or work": "WorkEducation",
    },
)
ULTIMATE = Source(
    {"streamline-ultimate": "CC BY 4.0", "streamline-ultimate-color": "CC BY 4.0"},
    {
        "control": "InterfaceEssential",
        "business": "BusinessProducts",
        "computer": "ComputersDevicesElectronics",
        "health": "HealthBeauty",
        "programming": "ProgramingAppsWebsites",
        "internet": "InternetNetworksServers",
        "brand logo": "Logos",
        "money": "MoneyPaymentsFinance",
        "office": "WorkOfficeCompanies",
        "design tool": "Design",
        "entertainment": "EntertainmentEventsHobbies",
        "file or folder": "FilesFolders",
        "food or drink": "FoodDrinks",
        "sport": "Sports",
        "vehicle": "Transportation",
        "restroom or door": "Wayfinding",
        "arrow": "ArrowsDiagrams",
        "photography": "ImagesPhotography",
        "map": "MapsNavigation",
        "chat message": "MessagesChatSmileys",
        "music": "MusicAudio",
        "phone": "PhonesMobileDevices",
        "delivery": "ShippingDelivery",
        "shopping": "ShoppingEcommerce",
        "reward or rating": "SocialMediasRewardsRating",
        "video": "VideoMoviesTv",
        "weather": "Weather",
        "person": "Users",
    },
)
PICTOGRAMS = Source(
    {
        "iconoir": "MIT",
        "uil": "Apache-2.0",
        "la": "Apache-2.0",
        "fa7-solid": "CC BY 4.0",
        "lets-icons": "CC BY 4.0",
        "iconamoon": "CC BY 4.0",
        "basil": "CC BY 4.0",
        "flowbite": "MIT",
        "healthicons": "MIT",
        "qlementine-icons": "MIT",
    },
    {
        "arrow": "iconoir/Navigation, uil/Arrows, la/Arrows, fa7-solid/Arrows, lets-icons/Arrow, "
        "lets-icons/Single Arrow, iconamoon/Arrow, basil/Navigation, flowbite/Arrows, "
        "qlementine-icons/Navigation",
        "brand logo": "uil/Brand Logos, iconoir/Social, lets-icons/Social network, basil/Brands, "
        "flowbite/Brands, qlementine-icons/Brand",
        "face": "iconoir/Emojis, uil/Emoji, la/Emoji, fa7-solid/Emoji, lets-icons/Emoji, "
        "iconamoon/Emojis, flowbite/Emoji, healthicons/Emotions",
        "text formatting": "iconoir/Editor, iconoir/Typography, la/Editors, fa7-solid/Editors, "
        "flowbite/Text, qlementine-icons/Text",
        "design tool": "iconoir/Design Tools, iconoir/3D Editor, uil/Design Tools, la/Design, "
        "fa7-solid/Design, lets-icons/Design & Developer",
        "file or folder": "iconoir/Docs, uil/File And Folder, la/Files, fa7-solid/Files, "
        "lets-icons/Folder and File, lets-icons/File Types, iconamoon/Files, basil/Files, "
        "flowbite/Files Folders, qlementine-icons/File, qlementine-icons/Document",
        "chat message": "iconoir/Communication, uil/Chat, la/Chat, fa7-solid/Chat, "
        "lets-icons/Message, basil/Communication, iconamoon/Communication",
        "money or shopping": "iconoir/Finance, iconoir/Shopping, uil/Shopping, "
        "la/Payments & Shopping, la/Currency, la/Finance, fa7-solid/Payments & Shopping, "
        "fa7-solid/Currency, fa7-solid/Finance, fa7-solid/Shopping, lets-icons/Shop & Ecommerce, "
        "iconamoon/eCommerce, flowbite/E-commerce",
        "medicine": "iconoir/Health, uil/Medical, la/Medical, fa7-solid/Medical, "
        "fa7-solid/Pharmacy, lets-icons/Healt and Medical, healthicons/Devices, "
        "healthicons/Conditions, healthicons/Specialties, healthicons/Diagnostics, "
        "healthicons/Medications, healthicons/Blood, healthicons/Contraceptives",
        "weather": "iconoir/Weather, uil/Weather, la/Weather, fa7-solid/Weather, "
        "lets-icons/Weather, flowbite/Weather",
        "person": "iconoir/Users, iconoir/Identity, uil/Users, la/Users & People, "
        "fa7-solid/Users & People, lets-icons/User and Group, flowbite/User, healthicons/People",
        "electronic device": "iconoir/Devices, uil/Devices, la/Computers, fa7-solid/Computers, "
        "lets-icons/Devices, basil/Devices, lets-icons/Phone, qlementine-icons/Hardware",
        "lock or shield": "iconoir/Security, uil/Security, la/Security, fa7-solid/Security, "
        "lets-icons/Secure",
        "map": "iconoir/Maps, uil/Location And Map, la/Maps, fa7-solid/Maps, "
        "lets-icons/Maps  and Travel",
        "food or drink": "iconoir/Food, la/Food, la/Beverage, fa7-solid/Food, fa7-solid/Beverage, "
        "fa7-solid/Fruits & Vegetables, lets-icons/Food and Drinks, flowbite/Food Beverage, "
        "healthicons/Nutrition, qlementine-icons/Food",
        "sport": "iconoir/Activities, uil/Sports, la/Sports, fa7-solid/Sports, "
        "fa7-solid/Fitness, lets-icons/Sport",
        "sound or video": "iconoir/Music, iconoir/Audio, iconoir/Photos and Videos, "
        "uil/Multimedia, uil/Photography Tools, la/Audio & Video, la/Music, la/Images, "
        "fa7-solid/Audio & Video, fa7-solid/Music, lets-icons/Media, iconamoon/Media, "
        "basil/Media, flowbite/Media, qlementine-icons/Media, qlementine-icons/Audio",
        "vehicle": "iconoir/Transport, uil/Transport, la/Automotive, fa7-solid/Automotive, "
        "fa7-solid/Vehicles, healthicons/Vehicles",
        "clock or calendar": "uil/Time, la/Date & Time, fa7-solid/Date & Time, lets-icons/Time, "
        "lets-icons/Date, lets-icons/Alarm",
        "building": "iconoir/Buildings, la/Buildings, fa7-solid/Buildings, uil/Construction, "
        "healthicons/Places",
        "home": "iconoir/Home, la/Household, fa7-solid/Household",
        "programming": "iconoir/Development, iconoir/Git, la/Code, fa7-solid/Code",
        "mathematics": "la/Mathematics, fa7-solid/Mathematics, iconamoon/Math, uil/Shape, "
        "iconoir/Shapes, la/Shapes, qlementine-icons/Shape",
        "science": "iconoir/Science, la/Science, fa7-solid/Science, fa7-solid/Science Fiction, "
        "la/Science Fiction",
        "school": "uil/Education, la/Education, fa7-solid/Education, lets-icons/Study, "
        "flowbite/Education",
        "hand gesture": "iconoir/Gestures, la/Hands, fa7-solid/Hands",
        "game": "iconoir/Gaming, la/Games, la/Tabletop Gaming, fa7-solid/Games, fa7-solid/Chess, "
        "fa7-solid/Tabletop Gaming",
        "religion": "la/Religion, fa7-solid/Religion",
        "cloud": "iconoir/Cloud, uil/Cloud And Web",
        "chart": "iconoir/Business, lets-icons/Chart, la/Business, healthicons/Graphs",
        "travel": "la/Travel, fa7-solid/Travel, fa7-solid/Hotel, fa7-solid/Camping",
    },
    most=400,
)
SYMBOLS = Source(
    {"material-symbols": "Apache-2.0"},
    {
        "text or formatting": "Text",
        "interface control": "UI Actions",
        "person or social life": "Social",
        "computer hardware": "Hardware",
        "photography": "Images",
        "everyday action": "Actions",
        "sound or video": "Audio & Video",
        "phone or signal": "Android",
        "message": "Communicate",
        "household object": "Household",
        "map or place": "Maps",
        "business or money": "Business",
        "public transport": "Transit",
        "sport or activity": "Activities",
        "smart home": "Home",
        "travel": "Travel",
        "privacy or safety": "Privacy",
    },
    left_out=("-rounded", "-sharp"),
)
ICONIFY = {
    "Material": MATERIAL,
    "Remix": REMIX,
    "IconPark": ICONPARK,
    "Solar": SOLAR,
    "Streamline": STREAMLINE,
    "Ultimate": ULTIMATE,
    "Pictograms": PICTOGRAMS,
    "Symbols": SYMBOLS,
}


@functools.cache
def class_words() -> frozenset[str]:
    """Names of the suite's classes, and the parts of names joined by "or"."""
    names = [name for source in ICONIFY.values() for name in source.classes]
    return frozenset(part for name in (*names, *CLASSES) for part in (name, *name.split(" or ")))
